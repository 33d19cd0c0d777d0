//! Randomness of three kinds: the system's for keys and nonces, a seeded generator for the world's codes and
//! numbers, and chance that depends on its key alone.

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

/// A seed that no run had before.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the library's generator is seeded from the system and does not fail after");
}

fn from_system(length: usize, alphabet: &[u8]) -> String {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    bytes.into_iter().map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect()
}

/// SplitMix64: small, fast, good enough for codes, numbers and chance. Not for keys.
#[derive(Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
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

/// A number below one million, the same for the same seed and key: chance that no interleaving of requests changes.
pub(crate) fn per_million(seed: u64, key: &[&[u8]]) -> u32 {
    let mut state = Seeded::new(seed).next();
    for part in key {
        for byte in *part {
            state = Seeded::new(state ^ u64::from(*byte)).next();
        }
        state = Seeded::new(state ^ 0x100).next();
    }
    (state % 1_000_000) as u32
}
