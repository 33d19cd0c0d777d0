//! WeChat's pen in a test's hand: callbacks signed and sealed as WeChat does, or not quite.
//!
//! What the simulator can do wrong by its script is not here; this is for what no WeChat would send.

use std::path::PathBuf;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{Method, RequestBuilder};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::stack::Stack;

pub(crate) const SIGNATURE: &str = "Wechatpay-Signature";
pub(crate) const SERIAL: &str = "Wechatpay-Serial";
pub(crate) const TIMESTAMP: &str = "Wechatpay-Timestamp";

/// A callback as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Letter {
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Letter {
    /// With another value of this header.
    pub(crate) fn with(mut self, header: &str, value: &str) -> Self {
        let place = self.headers.iter_mut().find(|(name, _)| *name == header).expect("a header of a callback");
        value.clone_into(&mut place.1);
        self
    }

    pub(crate) fn without(mut self, header: &str) -> Self {
        self.headers.retain(|(name, _)| *name != header);
        self
    }

    pub(crate) fn header(&self, header: &str) -> &str {
        &self.headers.iter().find(|(name, _)| *name == header).expect("a header of a callback").1
    }

    pub(crate) fn to(&self, stack: &Stack, kind: &str) -> RequestBuilder {
        let request = stack.request(Method::POST, &format!("/v1/wechat/notify/{kind}")).body(self.body.clone());
        let request = request.header("Content-Type", "application/json");
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }
}

/// The simulator's own keys.
pub(crate) struct Forger {
    key: RsaKeyPair,
    serial: String,
    pub apiv3_key: String,
}

impl Forger {
    pub(crate) fn of(stack: &Stack) -> Self {
        let keys = PathBuf::from(&stack.environment["HOLDFAST_WECHAT_PAY__APIV3_KEY_FILE"]);
        let file = |name: &str| std::fs::read_to_string(keys.with_file_name(name)).expect("a key file");
        let pem = file("platform_private_key.pem");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
        Self {
            key: RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key"),
            serial: file("public_key_id").trim().to_owned(),
            apiv3_key: file("apiv3_key").trim().to_owned(),
        }
    }

    /// Signs any body as of `at`.
    pub(crate) fn sign(&self, body: String, at: OffsetDateTime) -> Letter {
        let (timestamp, nonce) = (at.unix_timestamp().to_string(), Uuid::now_v7().simple().to_string());
        let message = format!("{timestamp}\n{nonce}\n{body}\n");
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("a signature");
        let headers = vec![
            (TIMESTAMP, timestamp),
            ("Wechatpay-Nonce", nonce),
            (SIGNATURE, BASE64.encode(signature)),
            (SERIAL, self.serial.clone()),
            ("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048".into()),
            ("Request-ID", format!("forged-{}", Uuid::now_v7().simple())),
        ];
        Letter { headers, body }
    }

    /// The body of a callback of this event, its content sealed with `key`.
    pub(crate) fn envelope(&self, event: &str, content: &str, key: &str) -> String {
        let nonce = "0123456789ab";
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("32 bytes"));
        let mut sealed = content.as_bytes().to_vec();
        let nonce_bytes = Nonce::try_assume_unique_for_key(nonce.as_bytes()).expect("12 bytes");
        cipher.seal_in_place_append_tag(nonce_bytes, Aad::from("transaction"), &mut sealed).expect("sealed");
        json!({
            "id": Uuid::now_v7(),
            "create_time": "2030-01-01T10:00:00+08:00",
            "resource_type": "encrypt-resource",
            "event_type": event,
            "summary": "支付成功",
            "resource": {
                "original_type": "transaction",
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": BASE64.encode(sealed),
                "associated_data": "transaction",
                "nonce": nonce,
            },
        })
        .to_string()
    }

    /// A right callback, signed now, about this content.
    pub(crate) fn callback(&self, content: &Value) -> Letter {
        let body = self.envelope("TRANSACTION.SUCCESS", &content.to_string(), &self.apiv3_key);
        self.sign(body, OffsetDateTime::now_utc())
    }
}

/// What WeChat says about a payment of this order.
pub(crate) fn paid(stack: &Stack, order: &str, transaction_id: &str) -> Value {
    json!({
        "transaction_id": transaction_id,
        "out_trade_no": order,
        "mchid": stack.environment["HOLDFAST_WECHAT_PAY__MCHID"],
        "appid": stack.environment["HOLDFAST_WECHAT_PAY__APPID"],
        "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功",
        "trade_type": "NATIVE",
        "bank_type": "OTHERS",
        "attach": "",
        "success_time": "2030-01-01T10:00:00+08:00",
        "payer": { "openid": "openid-of-a-payer" },
        "amount": { "total": 20_000, "payer_total": 20_000, "currency": "CNY", "payer_currency": "CNY" },
    })
}
