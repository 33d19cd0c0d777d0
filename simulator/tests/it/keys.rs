//! Key files, the three key modes, the rotation, and the published vector.

use serde_json::{Value, json};
use wechat_sim::{KeyMode, Keys, Settings};

use crate::merchant::{KEYS, Merchant, open_bytes, spki, verifies};

#[test]
fn our_check_agrees_with_the_published_vector() {
    let vector: Value = serde_json::from_str(include_str!("../vectors/response-verify-public-key.json")).unwrap();
    let input = &vector["input"];
    let header = |name: &str| input["headers"][name].as_str().unwrap();
    let key = spki(input["public_key_pem"].as_str().unwrap());
    let message =
        |body: &str| format!("{}\n{}\n{body}\n", header("Wechatpay-Timestamp"), header("Wechatpay-Nonce")).into_bytes();
    let (body, signature) = (input["body"].as_str().unwrap(), header("Wechatpay-Signature"));
    assert!(verifies(&key, &message(body), signature));
    for negative in vector["negative"].as_array().unwrap() {
        let body = negative["body"].as_str().unwrap_or(body);
        let signature = negative["signature"].as_str().unwrap_or(signature);
        assert!(!verifies(&key, &message(body), signature), "{}", negative["name"]);
    }
}

#[test]
fn keys_survive_their_files() {
    let directory = std::env::temp_dir().join(format!("wechat-sim-keys-{}", std::process::id()));
    KEYS.save(&directory).unwrap();
    let kept = Keys::load_or_generate(&directory).unwrap();
    assert_eq!(kept.merchant_private_key_pem, KEYS.merchant_private_key_pem);
    assert_eq!(kept.merchant_serial_no, KEYS.merchant_serial_no);
    assert_eq!(kept.platform_certificates[1].serial_no, KEYS.platform_certificates[1].serial_no);
    std::fs::remove_file(directory.join("apiv3_key")).unwrap();
    let reason = Keys::load_or_generate(&directory).unwrap_err();
    assert!(format!("{reason:#}").contains("apiv3_key"), "a part of a set is not overwritten");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn keys_look_as_wechats_do_and_do_not_show_themselves() {
    let serial = &KEYS.merchant_serial_no;
    assert!(serial.len() == 40 && serial.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c)), "{serial}");
    let (_, pem) = x509_parser::pem::parse_x509_pem(KEYS.merchant_certificate_pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_eq!(certificate.raw_serial_as_string().replace(':', "").to_uppercase(), *serial);
    assert!(KEYS.merchant_private_key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(KEYS.public_key_pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    assert!(KEYS.public_key_id.starts_with("PUB_KEY_ID_01"));
    assert_eq!(KEYS.apiv3_key.len(), 32);
    assert!(!format!("{:?}", *KEYS).contains(&KEYS.apiv3_key));
}

#[tokio::test]
async fn a_merchant_of_today_has_no_certificates() {
    let merchant = Merchant::new().await;
    assert_eq!(merchant.get("/v3/certificates").await.error(), (404, "RESOURCE_NOT_EXISTS".into()));
}

#[tokio::test]
async fn certificates_come_encrypted_and_are_rotated() {
    let settings = Settings { key_mode: KeyMode::Certificate, callback_speed: 300.0, ..Settings::default() };
    let mut merchant = Merchant::with(settings).await;
    let [first, second] = &KEYS.platform_certificates;
    for (script, listed, signing) in
        [(json!({}), 1, first), (json!({"rotation": "listed"}), 2, first), (json!({"rotation": "signing"}), 2, second)]
    {
        merchant.sim("/_sim/script", &script).await;
        let answer = merchant.get("/v3/certificates?algorithm_type=RSA").await;
        assert!(answer.is_genuine());
        assert_eq!(answer.headers["Wechatpay-Serial"], signing.serial_no);
        let data = answer.json()["data"].as_array().unwrap().clone();
        assert_eq!(data.len(), listed);
        for (item, certificate) in data.iter().zip([first, second]) {
            assert_eq!(item["serial_no"], certificate.serial_no);
            assert_eq!(open_bytes(&item["encrypt_certificate"]), certificate.pem.as_bytes());
        }
    }
    merchant.paid("hf000001").await;
    let callback = merchant.callback().await;
    assert!(callback.is_genuine());
    assert_eq!(callback.header("Wechatpay-Serial"), second.serial_no);

    merchant.sim("/_sim/script", &json!({"rotation": "overlap"})).await;
    let mut serials = Vec::new();
    for _ in 0..20 {
        let answer = merchant.query("hf000001").await;
        assert!(answer.is_genuine());
        serials.push(answer.headers["Wechatpay-Serial"].to_str().unwrap().to_owned());
    }
    assert!(serials.contains(&first.serial_no) && serials.contains(&second.serial_no), "{serials:?}");

    merchant.sim("/_sim/script", &json!({"rotation": "finished"})).await;
    let answer = merchant.get("/v3/certificates").await;
    let data = answer.json()["data"].clone();
    assert_eq!((data.as_array().unwrap().len(), &data[0]["serial_no"]), (1, &json!(second.serial_no)));
}

#[tokio::test]
async fn in_the_switch_the_request_chooses_and_callbacks_come_with_either() {
    let settings = Settings { key_mode: KeyMode::Both, callback_speed: 300.0, ..Settings::default() };
    let mut merchant = Merchant::with(settings).await;
    let certificate = &KEYS.platform_certificates[0].serial_no;
    for (asks, signs) in
        [(None, certificate), (Some(&KEYS.public_key_id), &KEYS.public_key_id), (Some(certificate), certificate)]
    {
        merchant.asks_for = asks.cloned();
        let answer = merchant.close("hf000000").await;
        assert!(answer.is_genuine());
        assert_eq!(answer.headers["Wechatpay-Serial"], *signs);
    }
    merchant.asks_for = Some("PUB_KEY_ID_0".into());
    assert_eq!(merchant.close("hf000000").await.error(), (400, "PARAM_ERROR".into()));
    merchant.asks_for = None;

    let mut serials = Vec::new();
    for number in 0..20 {
        merchant.paid(&format!("hf00{number:04}")).await;
        let callback = merchant.callback().await;
        assert!(callback.is_genuine());
        serials.push(callback.header("Wechatpay-Serial").to_owned());
    }
    assert!(serials.contains(certificate) && serials.contains(&KEYS.public_key_id), "{serials:?}");
}
