//! Platform certificates: first list, tampered lists, merchants without, serials that appear.

use super::support::{
    API_V3_KEY, NOW, PLATFORM, PUBLIC_KEY_ID, Reply, STRANGER, Server, api_v3, certificate_pem, client, now,
    platform_keys, seal, settings, signed_headers,
};
use crate::wechat::answers::Class;
use crate::wechat::certificates::{LearnGate, open_list};
use crate::wechat::exchange::Certificates;
use crate::wechat::notification::NotificationKeys;
use crate::wechat::settings::PaySettings;
use aws_lc_rs::rsa::KeyPair;
use reqwest::header::HeaderMap;
use serde_json::json;
use time::Duration;

/// A list with one certificate for `key`, signed by `signer` under `serial`.
fn list(key: &KeyPair, serial_byte: u8, signer: &KeyPair) -> (HeaderMap, String) {
    let pem = certificate_pem(key, &[serial_byte]);
    let body = json!({"data": [{
        "serial_no": "misspelt", "effective_time ": "2025-01-01T00:00:00+08:00",
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM", "nonce": "61f9c719728a", "associated_data": "certificate",
            "ciphertext": seal(API_V3_KEY, "61f9c719728a", "certificate", pem.as_bytes()),
        },
    }]})
    .to_string();
    let serial = format!("{serial_byte:02X}");
    (signed_headers(signer, &serial, NOW, body.as_bytes()), body)
}

fn reply(key: &KeyPair, serial_byte: u8) -> Reply {
    let (headers, body) = list(key, serial_byte, key);
    Reply::Http(200, headers, body.into_bytes())
}

#[test]
fn the_first_list_is_opened_then_checked_with_itself_or_the_public_key() {
    let keys_with = |key| NotificationKeys { platform: platform_keys(), api_v3: api_v3(key) };
    let keys = keys_with(API_V3_KEY);
    let (headers, body) = list(&STRANGER, 0x21, &STRANGER);
    let opened = open_list(&headers, body.as_bytes(), now(), &keys).expect("good");
    assert_eq!(opened[0].0, "21");
    let by_public_key = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, body.as_bytes());
    assert!(open_list(&by_public_key, body.as_bytes(), now(), &keys).is_ok());

    let (forged, body) = list(&STRANGER, 0x21, &PLATFORM);
    assert!(open_list(&forged, body.as_bytes(), now(), &keys).is_err());
    let other = keys_with("another-key-of-thirty-two-bytes!");
    assert!(open_list(&headers, body.as_bytes(), now(), &other).is_err());
    assert!(open_list(&headers, b"<html>", now(), &keys).is_err());
}

const NONE: [(u16, &str); 3] = [
    (404, r#"{"code":"RESOURCE_NOT_EXISTS","message":"apply for the public key"}"#),
    (403, r#"{"code":"NO_AUTH","message":"no right to call this"}"#),
    (403, "<html>"),
];

/// G4: 404 and 403 mean that there are no certificates; a strange serial is then no reason to ask again.
#[tokio::test]
async fn a_merchant_without_certificates_works_on() {
    let replies = NONE.map(|(status, body)| Reply::plain(status, body));
    let server = Server::start(replies.into_iter().chain([Reply::plain(502, "<html>")]).collect());
    let mut settings = settings(&server.url);
    settings.platform_certificates = true;
    let client = client(&settings);
    for (asked, (status, body)) in NONE.iter().enumerate() {
        assert_eq!(client.refresh_certificates().await, Ok(Certificates::None), "{status} {body}");
        assert!(!client.learn_serial("2A").await);
        assert_eq!(server.seen().len(), asked + 1, "asked once in ten hours");
    }
    let failed = client.refresh_certificates().await.expect_err("a gateway's page");
    assert_eq!(failed.class, Class::Unknown);
}

/// G4: without a public key the same answers mean that nothing can be verified, which is not passed over.
#[tokio::test]
async fn a_merchant_without_any_key_is_an_error() {
    let busy = Reply::plain(429, r#"{"code":"FREQUENCY_LIMITED","message":"slower"}"#);
    let replies = NONE.map(|(status, body)| Reply::plain(status, body));
    let server = Server::start(replies.into_iter().chain([busy]).collect());
    let with_key = PaySettings { platform_certificates: true, ..settings(&server.url) };
    let keyless = client(&PaySettings { public_key_id: None, public_key: None, ..with_key.clone() });
    for (status, body) in NONE {
        assert!(keyless.refresh_certificates().await.is_err(), "{status} {body}");
    }
    let slower = client(&with_key).refresh_certificates().await.expect_err("too many calls");
    assert_eq!(slower.class, Class::Busy);
}

#[tokio::test]
async fn a_list_under_another_apiv3_key_is_for_the_operator_and_a_broken_one_a_doubt() {
    let server = Server::start(vec![reply(&STRANGER, 0x24), Reply::signed(200, "<html>")]);
    let mut settings = settings(&server.url);
    settings.platform_certificates = true;
    settings.apiv3_key = Some("another-key-of-thirty-two-bytes!".into());
    let client = client(&settings);
    for class in [Class::Misconfigured, Class::Unknown] {
        let failed = client.refresh_certificates().await.expect_err("no list");
        assert_eq!(failed.class, class, "{failed}");
    }
}

#[tokio::test]
async fn an_answer_under_a_new_serial_is_believed_after_one_refresh() {
    let closed = Reply::Http(204, signed_headers(&STRANGER, "22", NOW, b""), Vec::new());
    let unheard = Reply::Http(204, signed_headers(&STRANGER, "23", NOW, b""), Vec::new());
    let server = Server::start(vec![closed, reply(&STRANGER, 0x22), unheard]);
    let mut settings = settings(&server.url);
    settings.platform_certificates = true;
    let client = client(&settings);
    client.close_order("hf0001").await.expect("closed");
    // The gate is shut for a minute: no further refresh, and no answer believed.
    let doubt = client.close_order("hf0002").await.expect_err("unknown serial");
    assert_eq!(doubt.class, Class::Unknown);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn an_unknown_serial_is_looked_up_once_and_at_most_one_a_minute() {
    let mut gate = LearnGate::default();
    assert!(gate.allows("A", now()));
    assert!(!gate.allows("B", now() + Duration::seconds(59)));
    assert!(gate.allows("B", now() + Duration::seconds(60)));
    assert!(!gate.allows("A", now() + Duration::hours(1)));
    gate.reset();
    assert!(gate.allows("A", now() + Duration::hours(10)));

    assert!(gate.close(), "news");
    assert!(!gate.allows("C", now() + Duration::hours(11)));
    gate.reset();
    assert!(gate.allows("C", now() + Duration::hours(20)));
    assert!(!gate.close(), "told once");
}
