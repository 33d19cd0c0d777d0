//! Signature checks: the published vector, each fault by name, mixed keys, arbitrary input.

use super::support::{
    NOW, PLATFORM, PUBLIC_KEY_ID, STRANGER, at, certificate_pem, header_map, now, pem, platform_keys, public_pem,
    signed_headers,
};
use crate::wechat::verify::{PlatformKey, PlatformKeyFault, PlatformKeys, SignatureFault};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde_json::Value;

const VECTOR: &str = include_str!("../../../tests/vectors/response-verify-public-key.json");

#[test]
fn published_vector_verifies_and_its_negatives_do_not() {
    let vector: Value = serde_json::from_str(VECTOR).expect("the vector");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let headers = &vector["input"]["headers"];
    let check = |body: &str, signature: Option<&str>, late: i64| {
        let key = text(&vector["input"]["public_key_pem"]);
        let key = PlatformKey::from_public_key_pem(key.as_bytes()).expect("the key");
        let keys = PlatformKeys::new([(text(&headers["Wechatpay-Serial"]), key)]);
        let mut pairs: Vec<_> =
            headers.as_object().expect("headers").iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        if let Some(signature) = signature {
            pairs.retain(|(name, _)| *name != "Wechatpay-Signature");
            pairs.push(("Wechatpay-Signature", signature.to_owned()));
        }
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        keys.verify(&header_map(&pairs), body.as_bytes(), at(1_722_850_421 + late))
    };
    let body = text(&vector["input"]["body"]);
    assert_eq!(check(&body, None, 0), Ok(()));
    assert_eq!(check(&body, None, 299), Ok(()));
    assert_eq!(check(&body, None, -299), Ok(()));
    for late in [300, -300, 86_400] {
        assert_eq!(check(&body, None, late), Err(SignatureFault::Stale { skew_seconds: late }));
    }
    for negative in vector["negative"].as_array().expect("negatives") {
        let fault = match negative["signature"].as_str() {
            Some(signature) => check(&body, Some(signature), 0),
            None => check(negative["body"].as_str().expect("a body"), None, 0),
        };
        let expected = match text(&negative["name"]).as_str() {
            "SIGNTEST prefix" => SignatureFault::Undecodable,
            _ => SignatureFault::Mismatch,
        };
        assert_eq!(fault, Err(expected), "{}", negative["name"]);
    }
}

#[test]
fn every_fault_has_its_name() {
    let keys = platform_keys();
    let good = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, b"{}");
    let verify = |change: &dyn Fn(&mut reqwest::header::HeaderMap)| {
        let mut headers = good.clone();
        change(&mut headers);
        keys.verify(&headers, b"{}", now()).map_err(|fault| fault.label())
    };
    assert_eq!(verify(&|_| {}), Ok(()));
    assert_eq!(verify(&|h| drop(h.remove("wechatpay-signature-type"))), Ok(()));
    for name in ["timestamp", "nonce", "serial", "signature", "signature-type"] {
        let name = format!("wechatpay-{name}");
        if name != "wechatpay-signature-type" {
            assert_eq!(verify(&|h| drop(h.remove(name.as_str()))), Err("header_missing"));
        }
        let twice = good[name.as_str()].clone();
        assert_eq!(
            verify(&|h| {
                h.append(reqwest::header::HeaderName::from_bytes(name.as_bytes()).expect("a name"), twice.clone());
            }),
            Err("header_unreadable")
        );
    }
    let set = |name: &'static str, value: &str| {
        let value = value.parse().expect("a header value");
        verify(&|h| drop(h.insert(name, reqwest::header::HeaderValue::clone(&value))))
    };
    assert_eq!(set("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"), Err("type_unsupported"));
    assert_eq!(set("wechatpay-timestamp", "soon"), Err("header_unreadable"));
    assert_eq!(set("wechatpay-timestamp", &i64::MIN.to_string()), Err("stale"));
    assert_eq!(set("wechatpay-serial", "PUB_KEY_ID_9"), Err("serial_unknown"));
    assert_eq!(set("wechatpay-serial", &"A".repeat(65)), Err("header_unreadable"));
    assert_eq!(set("wechatpay-signature", "AAAA"), Err("mismatch"));
    assert_eq!(set("wechatpay-nonce", "another"), Err("mismatch"));
    let stranger = signed_headers(&STRANGER, PUBLIC_KEY_ID, NOW, b"{}");
    assert_eq!(keys.verify(&stranger, b"{}", now()), Err(SignatureFault::Mismatch));
}

#[test]
fn key_rotation_with_both_keys_alive() {
    let (old_serial, old) = certificate(&STRANGER, &[0x00, 0xf1, 0x02]);
    assert_eq!(old_serial, "F102");
    let keys = platform_keys();
    keys.replace_certificates([(old_serial, old)]);
    let answered_by = |key, serial| {
        let headers = signed_headers(key, serial, NOW, b"x");
        keys.verify(&headers, b"x", now()).is_ok()
    };
    assert!(answered_by(&PLATFORM, PUBLIC_KEY_ID));
    assert!(answered_by(&STRANGER, "F102"));

    keys.replace_certificates([certificate(&STRANGER, &[0x0a, 0x03])]);
    assert_eq!(keys.serials(), ["0A03", PUBLIC_KEY_ID]);
    assert!(answered_by(&STRANGER, "0A03"));
    assert!(!answered_by(&STRANGER, "F102"));
}

#[test]
fn a_certificate_out_of_its_validity_is_no_key() {
    let keys = PlatformKeys::new([]);
    keys.replace_certificates([certificate(&PLATFORM, &[7])]);
    for (seconds, valid) in [(NOW, true), (1_700_000_000, false), (1_900_000_000, false)] {
        let headers = signed_headers(&PLATFORM, "07", seconds, b"");
        assert_eq!(keys.verify(&headers, b"", at(seconds)).is_ok(), valid);
    }
}

fn certificate(key: &aws_lc_rs::rsa::KeyPair, serial: &[u8]) -> (String, PlatformKey) {
    PlatformKey::from_certificate_pem(certificate_pem(key, serial).as_bytes()).expect("good")
}

#[test]
fn keys_of_other_kinds_and_sizes_are_refused() {
    let load = |pem: &str| PlatformKey::from_public_key_pem(pem.as_bytes()).map(|_| ());
    assert_eq!(load("no PEM"), Err(PlatformKeyFault::NotPublicKey));
    assert_eq!(load(&certificate_pem(&PLATFORM, &[1])), Err(PlatformKeyFault::NotPublicKey));
    let big = super::support::rsa(aws_lc_rs::rsa::KeySize::Rsa4096);
    assert_eq!(load(&public_pem(&big)), Err(PlatformKeyFault::Size(4096)));
    let curve = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("the library makes keys");
    let curve: PublicKeyX509Der<'_> = curve.public_key().as_der().expect("a public key encodes");
    assert_eq!(load(&pem("PUBLIC KEY", curve.as_ref())), Err(PlatformKeyFault::NotRsa));
    let certificate = |pem: &str| PlatformKey::from_certificate_pem(pem.as_bytes()).map(|_| ());
    assert_eq!(certificate(&public_pem(&PLATFORM)), Err(PlatformKeyFault::NotCertificate));
}

proptest! {
    #[test]
    fn arbitrary_headers_and_bodies_are_refused_without_panic(
        timestamp in "[ -~]{0,20}",
        serial in prop_oneof![Just(PUBLIC_KEY_ID.to_owned()), "[ -~]{0,80}".prop_map(String::from)],
        signature in prop_oneof!["[A-Za-z0-9+/=]{0,400}", "WECHATPAY/SIGNTEST/[A-Za-z0-9+/]{344}"],
        fresh: bool,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let timestamp = if fresh { NOW.to_string() } else { timestamp };
        let headers = header_map(&[
            ("Wechatpay-Timestamp", &timestamp),
            ("Wechatpay-Nonce", "n"),
            ("Wechatpay-Serial", &serial),
            ("Wechatpay-Signature", &signature),
        ]);
        prop_assert!(platform_keys().verify(&headers, &body, now()).is_err());
    }
}

proptest! {
    #[test]
    fn s4_1_what_wechat_signed_is_believed_and_with_any_bit_flipped_it_is_not(
        body in prop::collection::vec(any::<u8>(), 1..300), skew in -299i64..=299, place: prop::sample::Index, bit in 0u8..8,
    ) {
        let headers = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW + skew, &body);
        prop_assert_eq!(platform_keys().verify(&headers, &body, now()), Ok(()));

        let mut other = body.clone();
        other[place.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(platform_keys().verify(&headers, &other, now()), Err(SignatureFault::Mismatch));

        let name = "wechatpay-signature";
        let mut signature = BASE64.decode(&headers[name]).expect("base64");
        signature[place.index(256)] ^= 1 << bit;
        let mut changed = headers.clone();
        changed.insert(name, BASE64.encode(signature).parse().expect("a header"));
        prop_assert_eq!(platform_keys().verify(&changed, &body, now()), Err(SignatureFault::Mismatch));

        for (name, value) in [("wechatpay-nonce", "another".to_owned()), ("wechatpay-timestamp", NOW.to_string())] {
            let mut changed = headers.clone();
            changed.insert(name, value.parse().expect("a header"));
            let same = changed == headers;
            prop_assert_eq!(platform_keys().verify(&changed, &body, now()).is_ok(), same);
        }
    }
}
