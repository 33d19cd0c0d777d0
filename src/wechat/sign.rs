//! Proves that a request is the merchant's: the `Authorization` header and the front end's `paySign`.
//!
//! WeChat Pay, request signature: five lines (method, URL, timestamp, nonce, body), each ended by LF, signed with
//! RSASSA-PKCS1-v1_5 and SHA-256 by the merchant's 2048-bit key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// The one name of the algorithm, in our header and in WeChat's `Wechatpay-Signature-Type`.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// Why a private key cannot sign for WeChat Pay.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyFault {
    #[error("is not a PKCS#8 private key in PEM (BEGIN PRIVATE KEY)")]
    NotPkcs8,
    #[error("is not an RSA key of at least 2048 bits ({0})")]
    Rejected(String),
    #[error("is an RSA key of {0} bits; WeChat Pay takes 2048")]
    Size(usize),
}

/// The merchant's API private key with the serial of its certificate. Parsed once, shared by all calls.
pub struct MerchantKey {
    key: RsaKeyPair,
    mchid: String,
    serial_no: String,
}

impl MerchantKey {
    /// Reads the PEM which the merchant platform calls `apiclient_key.pem`.
    pub fn from_pem(pem: &[u8], mchid: &str, serial_no: &str) -> Result<Self, KeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyFault::NotPkcs8)?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|rejected| KeyFault::Rejected(rejected.to_string()))?;
        match key.public_modulus_len().saturating_mul(8) {
            2048 => Ok(Self { key, mchid: mchid.to_owned(), serial_no: serial_no.to_owned() }),
            bits => Err(KeyFault::Size(bits)),
        }
    }

    pub fn serial_no(&self) -> &str {
        &self.serial_no
    }

    /// The public half as PKCS#1 DER, to compare with the merchant's certificate.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The value of `Authorization` for a request.
    ///
    /// `target` is path and query exactly as they go on the wire (percent-encoded, without scheme and host), `body`
    /// the very bytes that are sent; empty without a body.
    pub fn authorization(&self, method: &str, target: &str, at: OffsetDateTime, nonce: &str, body: &[u8]) -> String {
        let timestamp = at.unix_timestamp();
        let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
        message.extend_from_slice(body);
        message.push(b'\n');
        let signature = self.sign(&message);
        let (mchid, serial_no) = (&self.mchid, &self.serial_no);
        format!(
            "{SCHEME} mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
             serial_no=\"{serial_no}\",signature=\"{signature}\""
        )
    }

    /// What the front end hands to `WeixinJSBridge` to open the payment sheet.
    pub fn jsapi_invocation(&self, appid: &str, prepay_id: &str, at: OffsetDateTime, nonce: &str) -> JsapiInvocation {
        let timestamp = at.unix_timestamp().to_string();
        let package = format!("prepay_id={prepay_id}");
        let message = format!("{appid}\n{timestamp}\n{nonce}\n{package}\n");
        JsapiInvocation {
            app_id: appid.to_owned(),
            time_stamp: timestamp,
            nonce_str: nonce.to_owned(),
            package,
            sign_type: "RSA".to_owned(),
            pay_sign: self.sign(message.as_bytes()),
        }
    }

    fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a checked RSA key signs any message into a buffer of its own length");
        BASE64.encode(signature)
    }
}

impl fmt::Debug for MerchantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MerchantKey")
            .field("mchid", &self.mchid)
            .field("serial_no", &self.serial_no)
            .finish_non_exhaustive()
    }
}

/// Parameters of `getBrandWCPayRequest`, spelled as the page needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsapiInvocation {
    pub app_id: String,
    /// Seconds since 1970, as text.
    pub time_stamp: String,
    pub nonce_str: String,
    /// `prepay_id=…`, good for two hours.
    pub package: String,
    pub sign_type: String,
    pub pay_sign: String,
}
