//! An encrypted part of a callback or certificate list, and the key that may be inside.
//!
//! Input: the part as JSON; after an empty line, a text to seal under its nonce and associated data.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use holdfast::wechat::{
    aead::{ApiV3Keys, OpenFault, Resource},
    verify::PlatformKey,
};
use std::sync::LazyLock;

use super::{
    assert_silent, parts,
    wechat_side::{API_V3_KEY, PREVIOUS_API_V3_KEY, api_v3_keys, seal},
};

static KEYS: LazyLock<ApiV3Keys> = LazyLock::new(api_v3_keys);

pub(crate) fn check(data: &[u8]) -> bool {
    let (resource, text) = parts(data);
    let Ok(resource) = serde_json::from_slice::<Resource>(resource) else {
        return false;
    };
    let associated_data = resource.associated_data.clone().unwrap_or_default();
    let sealed = |key, text: &[u8]| seal(key, resource.nonce.as_bytes(), associated_data.as_bytes(), text);
    let opened = KEYS.open(&resource);
    match &opened {
        Ok(text) => {
            // GCM gives one cipher for one text, so nothing but a seal of ours opens.
            let ours = [API_V3_KEY, PREVIOUS_API_V3_KEY].map(|key| sealed(key, text));
            assert!(ours.contains(&Some(resource.ciphertext.clone())), "opened what nobody sealed");
        }
        Err(fault) => assert_silent(&format!("{fault} {fault:?} {:?}", *KEYS), &[API_V3_KEY, PREVIOUS_API_V3_KEY]),
    }
    for key in [API_V3_KEY, PREVIOUS_API_V3_KEY] {
        let Some(ciphertext) = sealed(key, text) else {
            continue;
        };
        let good = Resource { algorithm: "AEAD_AES_256_GCM".to_owned(), ciphertext, ..resource.clone() };
        assert_eq!(KEYS.open(&good).as_deref(), Ok(text));
        let mut bytes = BASE64.decode(&good.ciphertext).expect("our own base64");
        let at = data.len() % bytes.len();
        bytes[at] ^= 1 << (data.len() % 8);
        let changed = Resource { ciphertext: BASE64.encode(bytes), ..good };
        assert_eq!(KEYS.open(&changed), Err(OpenFault::Authentication));
    }
    // What WeChat seals in its list of certificates is read next.
    let _ = PlatformKey::from_certificate_pem(text);
    let _ = PlatformKey::from_public_key_pem(text);
    opened.is_ok()
}
