//! WeChat's half of the protocol: what signs and seals in its place.
//!
//! Its RSA key has the right size and no strength: 64 small primes instead of two large ones, so that a signature
//! costs microseconds. Whoever verifies sees nothing but a modulus of 2048 bits.

use std::sync::LazyLock;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use holdfast::wechat::{
    aead::{ApiV3Key, ApiV3Keys},
    notification::NotificationKeys,
    verify::{PlatformKey, PlatformKeys},
};

/// The key of the published vector (`tests/vectors/aead-aes-256-gcm.json`).
pub(super) const API_V3_KEY: &str = "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb";
pub(super) const PREVIOUS_API_V3_KEY: &str = "0123456789abcdefghijABCDEFGHIJ!!";
const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0100000000000000000000000000000001";
/// What the clock shows, seconds since 1970.
pub(super) const NOW: i64 = 1_764_000_000;

pub(super) static KEYS: LazyLock<NotificationKeys> = LazyLock::new(|| {
    let platform = PlatformKey::from_public_key_pem(SIGNER.public_pem().as_bytes()).expect("a key of 2048 bits");
    NotificationKeys { platform: PlatformKeys::new([(PUBLIC_KEY_ID.to_owned(), platform)]), api_v3: api_v3_keys() }
});

pub(super) fn api_v3_keys() -> ApiV3Keys {
    let key = |text| ApiV3Key::new(text).expect("32 bytes");
    ApiV3Keys::new(key(API_V3_KEY), Some(key(PREVIOUS_API_V3_KEY)))
}

/// AEAD_AES_256_GCM; `None` when the nonce is not 12 bytes.
pub(super) fn seal(key: &str, nonce: &[u8], associated_data: &[u8], text: &[u8]) -> Option<String> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("32 bytes"));
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = text.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(associated_data), &mut sealed).expect("a short text seals");
    Some(BASE64.encode(sealed))
}

/// The headers of an HTTP message over `body`, and whether WeChat signed it: the value `SIGN` is replaced.
pub(super) fn headers<'h>(lines: impl Iterator<Item = (&'h str, &'h str)>, body: &[u8]) -> (HeaderMap, bool) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let wanted = text("wechatpay-signature") == Some("SIGN");
    let (Some(timestamp), Some(nonce), true) = (text("wechatpay-timestamp"), text("wechatpay-nonce"), wanted) else {
        return (headers, false);
    };
    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    let signature = HeaderValue::try_from(BASE64.encode(SIGNER.sign(&message))).expect("base64 is visible ASCII");
    headers.insert("wechatpay-signature", signature);
    (headers, true)
}

/// Little-endian; 2048 bits.
type Limbs = [u32; LIMBS];
const LIMBS: usize = 64;
const EXPONENT: u64 = 65_537;
/// The last limbs of a padded message, which hold the digest; all before them is the same for every message.
const DIGEST_LIMBS: usize = 8;

static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);

struct Signer {
    modulus: Limbs,
    primes: Vec<Prime>,
}

struct Prime {
    p: u64,
    /// The private exponent modulo p − 1.
    d: u64,
    /// The padding modulo p.
    padding: u64,
    /// 2^(32 i) modulo p.
    places: [u64; DIGEST_LIMBS],
    /// The modulus without this prime, and the inverse of that modulo p.
    others: Limbs,
    inverse: u64,
}

impl Signer {
    fn new() -> Self {
        let fits = |p: &u64| {
            (3..).step_by(2).take_while(|d| d * d <= *p).all(|d| !p.is_multiple_of(d))
                && !(p - 1).is_multiple_of(EXPONENT)
        };
        let primes: Vec<u64> =
            (0..=u64::from(u32::MAX)).rev().filter(|p| !p.is_multiple_of(2)).filter(fits).take(LIMBS).collect();
        let product = |without: u64| primes.iter().filter(|p| **p != without).fold(one(), |all, p| times(&all, *p));
        let of = |p: u64| {
            let others = product(p);
            let mut places = [1; DIGEST_LIMBS];
            for i in 1..DIGEST_LIMBS {
                places[i] = (places[i - 1] << 32) % p;
            }
            Prime {
                p,
                d: inverse(EXPONENT % (p - 1), p - 1),
                padding: remainder(&padded([0; 32]), p),
                places,
                // p is prime, so the power p − 2 is the inverse.
                inverse: power(remainder(&others, p), p - 2, p),
                others,
            }
        };
        Self { modulus: product(0), primes: primes.iter().map(|p| of(*p)).collect() }
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256: the root is taken modulo each prime, then put together.
    fn sign(&self, message: &[u8]) -> [u8; LIMBS * 4] {
        let hash = digest(&SHA256, message);
        let mut words = [0u64; DIGEST_LIMBS];
        for (word, bytes) in words.iter_mut().zip(hash.as_ref().rchunks(4)) {
            *word = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        let mut sum = [0u64; LIMBS + 1];
        for prime in &self.primes {
            let p = prime.p;
            let message = words.iter().zip(&prime.places).fold(prime.padding, |sum, (w, at)| (sum + w * at % p) % p);
            let factor = power(message, prime.d, p) * prime.inverse % p;
            let mut carry = 0;
            for (limb, other) in sum.iter_mut().zip(prime.others.iter().chain(&[0])) {
                let value = *limb + factor * u64::from(*other) % (1 << 32) + carry;
                carry = ((factor * u64::from(*other)) >> 32) + (value >> 32);
                *limb = value & 0xffff_ffff;
            }
        }
        while self.take_modulus(&mut sum) {}
        let mut signature = [0; LIMBS * 4];
        for (bytes, limb) in signature.rchunks_mut(4).zip(sum) {
            bytes.copy_from_slice(&u32::try_from(limb).expect("a limb has 32 bits").to_be_bytes());
        }
        signature
    }

    /// Subtracts the modulus once; false when the sum is smaller.
    fn take_modulus(&self, sum: &mut [u64; LIMBS + 1]) -> bool {
        let mut less = *sum;
        let mut borrow = 0;
        for (limb, taken) in less.iter_mut().zip(self.modulus.iter().chain(&[0])) {
            let taken = u64::from(*taken) + borrow;
            borrow = u64::from(*limb < taken);
            *limb = (*limb + (borrow << 32)) - taken;
        }
        if borrow == 0 {
            *sum = less;
        }
        borrow == 0
    }

    fn public_pem(&self) -> String {
        let modulus: Vec<u8> =
            std::iter::once(0).chain(self.modulus.iter().rev().flat_map(|l| l.to_be_bytes())).collect();
        let key = der(0x30, &[der(0x02, &modulus), der(0x02, &[1, 0, 1])].concat());
        let rsa = der(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
        let spki = der(0x30, &[rsa, der(0x03, &[vec![0], key].concat())].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(spki))
    }
}

/// RFC 8017, EMSA-PKCS1-v1_5.
fn padded(hash: [u8; 32]) -> Limbs {
    const SHA256_INFO: &[u8] = b"\x00\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    let mut bytes = vec![0, 1];
    bytes.resize(LIMBS * 4 - 32 - SHA256_INFO.len(), 0xff);
    bytes.extend_from_slice(SHA256_INFO);
    bytes.extend_from_slice(&hash);
    let mut limbs = [0; LIMBS];
    for (limb, four) in limbs.iter_mut().zip(bytes.rchunks(4)) {
        *limb = four.iter().fold(0, |limb, byte| (limb << 8) | u32::from(*byte));
    }
    limbs
}

fn one() -> Limbs {
    let mut limbs = [0; LIMBS];
    limbs[0] = 1;
    limbs
}

fn times(a: &Limbs, b: u64) -> Limbs {
    let mut carry = 0;
    a.map(|limb| {
        let value = u64::from(limb) * b + carry;
        carry = value >> 32;
        u32::try_from(value & 0xffff_ffff).expect("masked")
    })
}

fn remainder(a: &Limbs, p: u64) -> u64 {
    a.iter().rev().fold(0, |rest, limb| ((rest << 32) | u64::from(*limb)) % p)
}

fn power(base: u64, exponent: u64, p: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (base, exponent, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % p;
        }
        base = base * base % p;
        exponent >>= 1;
    }
    result
}

/// The inverse of `a` modulo `m`, which share no factor.
fn inverse(a: u64, m: u64) -> u64 {
    let (mut old, mut new) = ((i128::from(a), 1), (i128::from(m), 0));
    while new.0 != 0 {
        let q = old.0 / new.0;
        (old, new) = (new, (old.0 - q * new.0, old.1 - q * new.1));
    }
    u64::try_from(old.1.rem_euclid(i128::from(m))).expect("below m")
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, short @ ..0x80] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}
