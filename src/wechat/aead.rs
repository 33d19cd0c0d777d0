//! Opens what WeChat encrypts for the merchant: callbacks and platform certificates.
//!
//! AEAD_AES_256_GCM; the key is the 32 ASCII bytes of the APIv3 key as they stand (not hex, not base64), the nonce
//! 12 ASCII bytes, the text base64 of cipher and 16-byte tag.

use crate::live::Live;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use std::fmt;

/// The name of the one algorithm in use.
const ALGORITHM: &str = "AEAD_AES_256_GCM";

/// An APIv3 key, as the merchant platform lets one be set.
pub struct ApiV3Key(LessSafeKey);

/// The text has another length than 32 bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 ASCII characters, is {0} bytes")]
pub struct WrongLength(pub usize);

impl ApiV3Key {
    pub fn new(text: &str) -> Result<Self, WrongLength> {
        UnboundKey::new(&AES_256_GCM, text.as_bytes())
            .map(|key| Self(LessSafeKey::new(key)))
            .map_err(|_| WrongLength(text.len()))
    }
}

/// The APIv3 key, and those before it while callbacks sent under them may still arrive.
pub struct ApiV3Keys(Live<Vec<ApiV3Key>>);

impl ApiV3Keys {
    pub fn new(newest: ApiV3Key, previous: impl IntoIterator<Item = ApiV3Key>) -> Self {
        Self(Live::new(std::iter::once(newest).chain(previous).collect()))
    }

    /// For who opens nothing: every text is refused.
    pub(super) fn none() -> Self {
        Self(Live::new(Vec::new()))
    }

    /// Takes the keys of `fresh` in place of these.
    pub(super) fn copy(&self, fresh: &Self) {
        self.0.copy(&fresh.0);
    }

    /// How many there are, for people.
    pub fn count(&self) -> usize {
        self.0.get().len()
    }

    /// Decrypts and authenticates; tries the newest key first.
    pub fn open(&self, resource: &Resource) -> Result<Vec<u8>, OpenFault> {
        if resource.algorithm != ALGORITHM {
            return Err(OpenFault::Algorithm);
        }
        let nonce: [u8; NONCE_LEN] = resource.nonce.as_bytes().try_into().map_err(|_| OpenFault::Nonce)?;
        let sealed = BASE64.decode(&resource.ciphertext).map_err(|_| OpenFault::Encoding)?;
        let aad = resource.associated_data.as_deref().unwrap_or_default();
        self.0
            .get()
            .iter()
            .find_map(|key| {
                let mut text = sealed.clone();
                let nonce = Nonce::assume_unique_for_key(nonce);
                let length = key.0.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut text).ok()?.len();
                text.truncate(length);
                Some(text)
            })
            .ok_or(OpenFault::Authentication)
    }
}

impl fmt::Debug for ApiV3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiV3Keys").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// An encrypted part as callbacks (`resource`) and certificates (`encrypt_certificate`) carry it.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    pub algorithm: String,
    pub nonce: String,
    /// Absent and empty mean the same.
    #[serde(default)]
    pub associated_data: Option<String>,
    pub ciphertext: String,
}

/// Why an encrypted part stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenFault {
    #[error("algorithm is not {ALGORITHM}")]
    Algorithm,
    #[error("nonce is not 12 bytes")]
    Nonce,
    #[error("ciphertext is not base64")]
    Encoding,
    /// Another APIv3 key, or changed on the way.
    #[error("does not open with our APIv3 key")]
    Authentication,
}
