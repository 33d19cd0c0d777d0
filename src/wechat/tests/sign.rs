//! Request signatures, checked with the public half as WeChat would.

use super::support::{self, MERCHANT, MERCHANT_SERIAL, NOW, at, private_pem, rsa};
use crate::wechat::sign::{KeyFault, MerchantKey};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

fn merchant_key() -> MerchantKey {
    MerchantKey::from_pem(private_pem(&MERCHANT).as_bytes(), "1900000109", MERCHANT_SERIAL).expect("a good key")
}

fn is_signed(message: &[u8], signature: &str) -> bool {
    let signature = BASE64.decode(signature).expect("base64");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, MERCHANT.public_key()).verify(message, &signature).is_ok()
}

fn member<'a>(authorization: &'a str, name: &str) -> &'a str {
    let (_, rest) = authorization.split_once(&format!("{name}=\"")).expect("the member");
    rest.split_once('"').expect("its end").0
}

proptest! {
    #[test]
    fn authorization_signs_exactly_the_five_lines(
        target in "/v3/[ -~]{0,60}",
        body in prop::collection::vec(any::<u8>(), 0..200),
        nonce in "[0-9A-Za-z]{16,32}",
    ) {
        let header = merchant_key().authorization("POST", &target, at(NOW), &nonce, &body);
        prop_assert!(header.starts_with("WECHATPAY2-SHA256-RSA2048 mchid=\"1900000109\","));
        prop_assert_eq!(member(&header, "serial_no"), MERCHANT_SERIAL);
        let lines = [format!("POST\n{target}\n{NOW}\n{nonce}\n").as_bytes(), &body, b"\n"].concat();
        prop_assert!(is_signed(&lines, member(&header, "signature")));
    }
}

#[test]
fn a_call_without_body_signs_an_empty_fifth_line() {
    let header = merchant_key().authorization("GET", "/v3/certificates", at(NOW), "n", b"");
    let lines = format!("GET\n/v3/certificates\n{NOW}\nn\n\n");
    assert!(is_signed(lines.as_bytes(), member(&header, "signature")));
}

#[test]
fn jsapi_parameters_are_signed_and_spelled_for_the_page() {
    let invocation = merchant_key().jsapi_invocation("wx8888888888888888", "wx201", at(NOW), "n");
    let lines = format!("wx8888888888888888\n{NOW}\nn\nprepay_id=wx201\n");
    assert!(is_signed(lines.as_bytes(), &invocation.pay_sign));
    let json = serde_json::to_value(&invocation).expect("JSON");
    for name in ["appId", "timeStamp", "nonceStr", "package", "signType", "paySign"] {
        assert!(json[name].is_string(), "{name}");
    }
    assert_eq!(json["signType"], "RSA");
}

#[test]
fn only_a_2048_bit_pkcs8_key_is_taken() {
    let load = |pem: &str| MerchantKey::from_pem(pem.as_bytes(), "1", "2").map(|_| ());
    assert_eq!(load(""), Err(KeyFault::NotPkcs8));
    assert_eq!(load(&support::public_pem(&MERCHANT)), Err(KeyFault::NotPkcs8));
    let pkcs1 = private_pem(&MERCHANT).replace("PRIVATE KEY", "RSA PRIVATE KEY");
    assert_eq!(load(&pkcs1), Err(KeyFault::NotPkcs8));
    assert_eq!(load(&private_pem(&rsa(KeySize::Rsa3072))), Err(KeyFault::Size(3072)));
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", merchant_key());
    assert_eq!(text, format!("MerchantKey {{ mchid: \"1900000109\", serial_no: \"{MERCHANT_SERIAL}\", .. }}"));
}
