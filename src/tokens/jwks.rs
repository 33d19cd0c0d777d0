//! Public keys from a JWK Set (RFC 7517): those that sign tokens with RS256, ES256 or EdDSA. Others are passed over.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::keys::VerifyingKey;

/// A token without a `kid` is tried with all keys of its algorithm, so their number bounds what a forged one costs.
const KEYS_MAX: usize = 64;
/// RFC 7518, 3.3: 2048 bits or more.
const MODULUS_BYTES_MIN: usize = 256;
/// P-256's coordinates and Ed25519's keys.
const POINT_BYTES: usize = 32;
const KID_BYTES_MAX: usize = 256;

/// Why a document gives no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKeys {
    #[error("is not a JWK Set")]
    Unreadable,
    #[error("lists more than {KEYS_MAX} keys")]
    TooMany,
    #[error("has no key for RS256, ES256 or EdDSA")]
    NoneFits,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// # Errors
/// The document is no JWK Set, is too long, or has no key of use.
pub(super) fn parse(document: &[u8]) -> Result<Vec<VerifyingKey>, NoKeys> {
    let set: Set = serde_json::from_slice(document).map_err(|_| NoKeys::Unreadable)?;
    if set.keys.len() > KEYS_MAX {
        return Err(NoKeys::TooMany);
    }
    // A key of a kind that is not known is no fault of the set (RFC 7517, 5).
    let readable = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    let keys: Vec<VerifyingKey> = readable.filter_map(verifying).collect();
    if keys.is_empty() { Err(NoKeys::NoneFits) } else { Ok(keys) }
}

/// The key, bound to the one algorithm that it is for; `None` for a key of another use.
fn verifying(jwk: Jwk) -> Option<VerifyingKey> {
    let signs = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
    if !signs || !verifies || jwk.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return None;
    }
    let is_for = |names: &[&str]| jwk.alg.as_deref().is_none_or(|alg| names.contains(&alg));
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if is_for(&["RS256"]) => {
            let (n, e) = (bytes(&jwk.n)?, bytes(&jwk.e)?);
            // Leading zeros do not lengthen a number; an exponent of 1 would make every signature good.
            let digits = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
            let is_long = digits(&n).len() >= MODULUS_BYTES_MIN;
            let is_odd = e.last().is_some_and(|byte| byte % 2 == 1) && digits(&e) != [1];
            (is_long && is_odd).then(|| (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&n, &e)))?
        }
        ("EC", Some("P-256")) if is_for(&["ES256"]) => {
            let (x, y) = (point(&jwk.x)?, point(&jwk.y)?);
            let uncompressed = [&[4][..], &x, &y].concat();
            (Algorithm::ES256, DecodingKey::from_ec_der(&uncompressed))
        }
        // RFC 9864 names the algorithm after its curve.
        ("OKP", Some("Ed25519")) if is_for(&["EdDSA", "Ed25519"]) => {
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&point(&jwk.x)?))
        }
        _ => return None,
    };
    Some(VerifyingKey { name: jwk.kid.filter(|kid| !kid.is_empty()), algorithm, key })
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()
}

fn point(text: &Option<String>) -> Option<Vec<u8>> {
    bytes(text).filter(|bytes| bytes.len() == POINT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(keys: Value) -> Result<Vec<(Option<String>, Algorithm)>, NoKeys> {
        let keys = parse(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(keys.into_iter().map(|key| (key.name, key.algorithm)).collect())
    }

    fn rsa(changes: Value) -> Value {
        let n = URL_SAFE_NO_PAD.encode([0xa5; 256]);
        let mut key = json!({"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB"});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    /// F12: Each key has the one algorithm of its type; what is for something else, or too short, is no key.
    #[test]
    fn f12_a_key_is_bound_to_its_algorithm() {
        let short = URL_SAFE_NO_PAD.encode([0xa5; 128]);
        let padded = URL_SAFE_NO_PAD.encode([[0; 128], [0xa5; 128]].concat());
        let half = URL_SAFE_NO_PAD.encode([7; 32]);
        let ec = |crv: &str| json!({"kty": "EC", "kid": "e", "crv": crv, "x": half, "y": half});
        let okp = |crv: &str| json!({"kty": "OKP", "crv": crv, "x": half});
        let set = json!([
            rsa(json!({})), rsa(json!({"alg": null, "use": null, "kid": "plain"})), ec("P-256"), okp("Ed25519"),
            rsa(json!({"use": "enc"})), rsa(json!({"alg": "RS512"})), rsa(json!({"alg": "HS256"})), rsa(json!({"n": short})),
            rsa(json!({"n": padded})), rsa(json!({"e": "AQ"})), rsa(json!({"e": "AAE"})), rsa(json!({"e": ""})), rsa(json!({"key_ops": ["sign"]})),
            ec("P-384"), okp("Ed448"), {"kty": "oct", "k": half, "alg": "HS256"}, {"kty": "new"}, 7,
            rsa(json!({"kid": "k".repeat(257)})),
        ]);
        let expected = [
            (Some("r"), Algorithm::RS256),
            (Some("plain"), Algorithm::RS256),
            (Some("e"), Algorithm::ES256),
            (None, Algorithm::EdDSA),
        ];
        let expected: Vec<_> = expected.map(|(name, algorithm)| (name.map(str::to_owned), algorithm)).into();
        assert_eq!(read(set), Ok(expected));
        assert_eq!(read(json!([])), Err(NoKeys::NoneFits));
        assert_eq!(read(vec![rsa(json!({})); 65].into()), Err(NoKeys::TooMany));
        for text in ["", "[]", "{\"keys\": 1}", "<html>"] {
            assert_eq!(parse(text.as_bytes()).err(), Some(NoKeys::Unreadable), "{text}");
        }
    }
}
