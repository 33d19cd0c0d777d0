//! Settings: everything that is wrong, at once, by name; and no secret in any output.

use super::support::{
    MERCHANT, MERCHANT_SERIAL, PLATFORM, STRANGER, certificate_pem, pem, private_pem, public_pem, settings,
};
use crate::wechat::settings::PaySettings;
use crate::wechat::verify::PlatformKey;
use secrecy::SecretString;

fn problems(settings: &PaySettings) -> Vec<String> {
    settings.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn s2_1_an_empty_configuration_lists_all_that_is_missing() {
    assert_eq!(
        problems(&PaySettings::default()),
        [
            "wechat_pay.base_url is missing",
            "wechat_pay.appid is missing",
            "wechat_pay.mchid is missing",
            "wechat_pay.merchant_serial_no is missing",
            "wechat_pay.merchant_private_key is missing (or merchant_private_key_file)",
            "wechat_pay.apiv3_key is missing (or apiv3_key_file)",
            "wechat_pay.public_key_id is missing (or platform_certificates = true)",
            "wechat_pay.notify_url is missing",
        ]
    );
}

#[test]
fn s2_1_production_and_simulator_differ_in_configuration_only() {
    let mut settings = settings("http://127.0.0.1:8090");
    assert_eq!(problems(&settings), [""; 0]);
    settings.base_url = Some("https://api.mch.weixin.qq.com".to_owned());
    assert_eq!(
        problems(&settings),
        ["wechat_pay.notify_url must be https", "wechat_pay.notify_url must be reachable from the internet",]
    );
    let local = "must be reachable from the internet";
    let not_served = "must end with /v1/wechat/notify/payments, where the ingress takes payments";
    for (address, problem) in [
        ("https://pay.example.com/v1/wechat/notify/payments", None),
        ("https://pay.example.com/studio/v1/wechat/notify/payments", None),
        ("https://[2606:4700::1]/v1/wechat/notify/payments", None),
        ("https://[::1]/v1/wechat/notify/payments", Some(local)),
        ("https://[fd00::1]/v1/wechat/notify/payments", Some(local)),
        ("https://[fe80::1]/v1/wechat/notify/payments", Some(local)),
        ("https://ingress/v1/wechat/notify/payments", Some(local)),
        // F15: addresses that nothing serves.
        ("https://pay.example.com/payments", Some(not_served)),
        ("https://pay.example.com/v1/wechat/notify/payments/", Some(not_served)),
        ("https://pay.example.com/v1/wechat/notify/refunds", Some(not_served)),
        ("mailto:ann@example.com", Some("must be https")),
    ] {
        settings.notify_url = Some(address.to_owned());
        let expected = problem.map(|problem| format!("wechat_pay.notify_url {problem}"));
        assert_eq!(problems(&settings), Vec::from_iter(expected), "{address}");
    }
}

#[test]
fn refunds_are_announced_beside_payments_unless_said_otherwise() {
    let announced = |notify_url: &str, refund_notify_url: Option<&str>| {
        let settings = PaySettings {
            notify_url: Some(notify_url.to_owned()),
            refund_notify_url: refund_notify_url.map(str::to_owned),
            ..settings("http://127.0.0.1:8090")
        };
        settings.load().expect("good").refund_notify_url
    };
    let ours = "http://api:8080/v1/wechat/notify/payments";
    assert_eq!(announced(ours, None).as_deref(), Some("http://api:8080/v1/wechat/notify/refunds"));
    let other = "http://other:8080/studio/v1/wechat/notify/refunds";
    assert_eq!(announced(ours, Some(other)).as_deref(), Some(other));
    let wrong = PaySettings { refund_notify_url: Some(ours.to_owned()), ..settings("http://127.0.0.1:8090") };
    assert_eq!(
        problems(&wrong),
        ["wechat_pay.refund_notify_url must end with /v1/wechat/notify/refunds, where the ingress takes refunds"]
    );
}

/// F15: the merchant's own public key verifies nothing of WeChat's.
#[test]
fn the_merchants_own_public_key_is_not_wechats() {
    let own = "wechat_pay.public_key is the merchant's own; WeChat Pay's is wxp_pub.pem of the merchant platform";
    let good = settings("http://127.0.0.1:8090");
    let current = PaySettings { public_key: Some(SecretString::from(public_pem(&MERCHANT))), ..good.clone() };
    let previous = PaySettings {
        previous_public_key_id: Some("PUB_KEY_ID_0100000000000000000000000000000002".to_owned()),
        previous_public_key: Some(SecretString::from(public_pem(&MERCHANT))),
        ..good
    };
    for wrong in [current, previous] {
        assert_eq!(problems(&wrong), [own]);
    }
}

#[test]
fn s2_1_every_wrong_setting_is_named_in_one_go() {
    let settings = PaySettings {
        base_url: Some("http://api.mch.weixin.qq.com/v3".to_owned()),
        appid: Some("8888".to_owned()),
        mchid: Some("merchant".to_owned()),
        merchant_serial_no: Some("77".to_owned()),
        merchant_private_key: Some(SecretString::from("no PEM")),
        apiv3_key: Some(SecretString::from("short")),
        previous_apiv3_key: Some(SecretString::from("shorter")),
        public_key_id: Some("0114".to_owned()),
        public_key_file: Some("/nonexistent/wxp_pub.pem".into()),
        notify_url: Some("https://u:p@10.0.0.1/?x=1".to_owned()),
        timeout_ms: Some(1),
        ..PaySettings::default()
    };
    assert_eq!(
        problems(&settings),
        [
            "wechat_pay.base_url must be https",
            "wechat_pay.base_url must be scheme and host alone",
            "wechat_pay.appid must be wx and 16 hex digits",
            "wechat_pay.mchid must be 8 to 10 digits",
            "wechat_pay.merchant_serial_no must be 40 hex characters",
            "wechat_pay.merchant_private_key is not a PKCS#8 private key in PEM (BEGIN PRIVATE KEY)",
            "wechat_pay.apiv3_key must be 32 ASCII characters, is 5 bytes",
            "wechat_pay.previous_apiv3_key must be 32 ASCII characters, is 7 bytes",
            "wechat_pay.public_key_id must be PUB_KEY_ID_ and digits",
            "wechat_pay.public_key_file cannot be read: /nonexistent/wxp_pub.pem: \
             No such file or directory (os error 2)",
            "wechat_pay.notify_url must not have a query or fragment",
            "wechat_pay.notify_url must have a path",
            "wechat_pay.notify_url must not carry a login",
            "wechat_pay.notify_url must be reachable from the internet",
            "wechat_pay.timeout_ms must be from 100 to 60000",
        ]
    );
}

#[test]
fn s2_1_key_serial_and_certificate_must_belong_together() {
    let path = std::env::temp_dir().join(format!("apiclient_cert-{}.pem", std::process::id()));
    let serial: Vec<u8> =
        (0..20).map(|i| u8::from_str_radix(&MERCHANT_SERIAL[i * 2..i * 2 + 2], 16).expect("hex")).collect();
    std::fs::write(&path, certificate_pem(&MERCHANT, &serial)).expect("a file");
    let mut settings = settings("http://127.0.0.1:8090");
    settings.merchant_certificate_file = Some(path.clone());
    assert_eq!(problems(&settings), [""; 0]);

    settings.merchant_serial_no = None;
    let account = settings.load().expect("the certificate tells its serial");
    assert_eq!(account.merchant_key.get().serial_no(), MERCHANT_SERIAL);

    settings.merchant_private_key = Some(SecretString::from(private_pem(&STRANGER)));
    settings.merchant_serial_no = Some("0".repeat(40));
    assert_eq!(
        problems(&settings),
        [
            "wechat_pay.merchant_private_key does not belong to merchant_certificate_file".to_owned(),
            format!("wechat_pay.merchant_serial_no differs from the certificate's, {MERCHANT_SERIAL}"),
        ]
    );

    std::fs::write(&path, pem("CERTIFICATE", b"no certificate")).expect("a file");
    assert_eq!(problems(&settings), ["wechat_pay.merchant_certificate_file is not an X.509 certificate in PEM"]);
    std::fs::remove_file(path).expect("the file");
}

#[test]
fn s6_4_several_keys_stand_in_one_text_the_first_in_force() {
    let mut settings = settings("http://127.0.0.1:8090");
    let id = settings.public_key_id.take().expect("an id");
    settings.apiv3_key = Some(SecretString::from(format!("{}\n{}\n", "n".repeat(32), "o".repeat(32))));
    let both = format!("PUB_KEY_ID_2\n{}{id}\n{}", public_pem(&STRANGER), public_pem(&PLATFORM));
    settings.public_key = Some(SecretString::from(both));
    let account = settings.load().expect("good");
    assert_eq!(account.keys.api_v3.count(), 2);
    assert_eq!(account.keys.platform.preferred().as_deref(), Some("PUB_KEY_ID_2"));
    assert_eq!(account.keys.platform.serials(), [id.clone(), "PUB_KEY_ID_2".to_owned()]);

    settings.public_key_id = Some(id);
    assert_eq!(problems(&settings), ["wechat_pay.public_key_id differs from the one in public_key_file"]);
    settings.public_key_id = None;
    settings.public_key = Some(SecretString::from(public_pem(&PLATFORM)));
    assert_eq!(problems(&settings), ["wechat_pay.public_key_id is missing"]);
}

#[test]
fn s6_4_keys_read_again_leave_the_certificates_that_wechat_told_of() {
    let account = settings("http://127.0.0.1:8090").load().expect("good");
    let (serial, certificate) =
        PlatformKey::from_certificate_pem(certificate_pem(&STRANGER, &[0x51, 0x57]).as_bytes()).expect("a certificate");
    account.keys.platform.replace_certificates([(serial.clone(), certificate)]);
    let fresh = PaySettings {
        public_key_id: Some("PUB_KEY_ID_2".to_owned()),
        merchant_serial_no: Some("A".repeat(40)),
        ..settings("http://127.0.0.1:8090")
    };
    account.renew(&fresh.load().expect("good"));
    assert_eq!(account.keys.platform.serials(), [serial, "PUB_KEY_ID_2".to_owned()]);
    assert_eq!(account.keys.platform.preferred().as_deref(), Some("PUB_KEY_ID_2"));
    assert_eq!(account.merchant_key.get().serial_no(), "A".repeat(40));
}

#[test]
fn a_secret_given_twice_is_not_guessed() {
    let mut settings = settings("http://127.0.0.1:8090");
    settings.apiv3_key_file = Some("apiv3_key".into());
    assert_eq!(problems(&settings), ["wechat_pay.apiv3_key is given twice, also as apiv3_key_file"]);
}

#[test]
fn unknown_keys_are_refused() {
    let unknown = serde_json::json!({"api_v3_key": "x"});
    assert!(serde_json::from_value::<PaySettings>(unknown).is_err());
}

#[test]
fn s2_1_no_secret_in_debug_output() {
    let settings = settings("http://127.0.0.1:8090");
    let account = settings.load().expect("good");
    let text = format!("{settings:?} {account:?}");
    let key = private_pem(&MERCHANT);
    let line = key.lines().nth(2).expect("a line of the key");
    assert!(!text.contains(line) && !text.contains(super::support::API_V3_KEY));
    assert!(!text.contains(private_pem(&PLATFORM).lines().nth(2).expect("a line")));
}
