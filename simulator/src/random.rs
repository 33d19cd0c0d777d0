//! Randomness of two kinds: the system's for keys and nonces, and the seed's for everything that a run can be
//! recognised by: codes, numbers, chance. The seed's depends on what it is drawn for, not on when, so that no
//! interleaving of requests changes it.

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `length` letters and digits from the system's generator.
pub(crate) fn text(length: usize) -> String {
    from_system(length, LETTERS)
}

/// `length` decimal digits from the system's generator.
pub(crate) fn digits(length: usize) -> String {
    from_system(length, b"0123456789")
}

/// `length` upper-case hex digits from the system's generator.
pub(crate) fn hex(length: usize) -> String {
    from_system(length, b"0123456789ABCDEF")
}

fn from_system(length: usize, alphabet: &[u8]) -> String {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes)
        .expect("the library's generator is seeded from the system and does not fail after");
    bytes.into_iter().map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect()
}

/// SplitMix64: small, fast, good enough for codes, numbers and chance. Not for keys.
#[derive(Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// The generator of one thing, named by `key`: the same for the same seed and key, and like no other.
    pub(crate) fn of(seed: u64, key: &[&[u8]]) -> Self {
        let mut state = Self(seed).next();
        for part in key {
            for byte in *part {
                state = Self(state ^ u64::from(*byte)).next();
            }
            state = Self(state ^ 0x100).next();
        }
        Self(state)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `length` letters and digits.
    pub(crate) fn text(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(LETTERS[(self.next() % 62) as usize])).collect()
    }
}
