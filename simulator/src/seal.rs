//! WeChat's side of the cryptography: signature headers for answers and callbacks, AES-256-GCM for secrets.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use time::{Duration, OffsetDateTime};

use crate::{keys::Signer, random, world::fault::Forgery};

/// The five headers that prove an answer or a callback.
pub(crate) struct Seal([(&'static str, String); 5]);

impl Seal {
    /// Signs `body` at `now`, or does it wrong in the way `forgery` asks for.
    pub(crate) fn new(signer: &Signer, body: &[u8], now: OffsetDateTime, forgery: Option<Forgery>) -> Self {
        let stranger;
        let signer = match forgery {
            Some(Forgery::WrongKey) => {
                stranger = signer.stranger();
                &stranger
            }
            _ => signer,
        };
        let stamped = match forgery {
            Some(Forgery::Replayed) => now - Duration::minutes(10),
            _ => now,
        };
        let timestamp = stamped.unix_timestamp().to_string();
        let nonce = random::text(32);
        let body: &[u8] = match forgery {
            Some(Forgery::WrongSignature) => b"another body",
            _ => body,
        };
        let mut signature = signer.sign(&[timestamp.as_bytes(), nonce.as_bytes(), body, b""].join(&b'\n'));
        if forgery == Some(Forgery::Signtest) {
            signature.insert_str(0, "WECHATPAY/SIGNTEST/");
        }
        Self([
            ("Wechatpay-Timestamp", timestamp),
            ("Wechatpay-Nonce", nonce),
            ("Wechatpay-Signature", signature),
            ("Wechatpay-Serial", signer.serial.to_string()),
            ("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048".into()),
        ])
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// Base64 of ciphertext and tag under an APIv3 key. `nonce` has 12 ASCII characters.
pub(crate) fn encrypt(apiv3_key: &str, nonce: &str, associated_data: &str, plaintext: &[u8]) -> String {
    encrypt_with(apiv3_key.as_bytes(), nonce, associated_data, plaintext)
}

fn encrypt_with(key: &[u8], nonce: &str, associated_data: &str, plaintext: &[u8]) -> String {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("the APIv3 key was checked to have 32 bytes");
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).expect("our nonces have 12 characters");
    let mut sealed = plaintext.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::from(associated_data), &mut sealed)
        .expect("only a message of many gigabytes cannot be sealed");
    BASE64_STANDARD.encode(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_as_the_published_vector_does() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/aead-aes-256-gcm.json")).unwrap();
        let case = &vectors["cases"][0];
        let text = |name: &str| case[name].as_str().unwrap();
        let sealed =
            encrypt_with(text("key").as_bytes(), text("nonce"), text("associated_data"), text("plaintext").as_bytes());
        assert_eq!(sealed, text("ciphertext_base64"));
    }
}
