//! Bytes as two digits each, the way digests and trace contexts are written. An order needs a few of them, so they are not
//! formatted one by one.

/// Lower-case hex.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digit = |number: u8| char::from(b"0123456789abcdef"[usize::from(number)]);
    bytes.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(hex([0, 10, 0xa0, 255]), "000aa0ff");
        assert_eq!(hex([]), "");
    }
}
