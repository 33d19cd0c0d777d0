//! Verifies a merchant's request as strictly as WeChat Pay does: headers, clock, serial, signature.

use aws_lc_rs::signature::ParsedPublicKey;
use axum::http::{HeaderMap, Method, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::{platform::Platform, refusal::Refusal};

const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// A request further than this from WeChat's clock is refused (WeChat Pay: request signature, timestamp).
const WINDOW: Duration = Duration::minutes(5);

/// One request as it came over the wire.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a Method,
    /// Path and query, byte for byte as sent.
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Accepts the request, or says what is wrong with it. Answers the signer's `mchid`.
pub(crate) fn verify(
    request: &Request<'_>,
    platform: &Platform,
    mchid: &str,
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    basic_rules(request)?;
    let Some(header) = request.headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::signature("authorization", "Http头缺少Authorization"));
    };
    let parts = Parts::parse(header.to_str().unwrap_or_default())?;

    let sent = parts.timestamp.parse().ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    match sent {
        Some(sent) if (now - sent).abs() <= WINDOW => {}
        Some(_) => {
            return Err(Refusal::signature("timestamp", "时间戳与微信支付服务器相差超过5分钟"));
        }
        None => return Err(Refusal::signature("timestamp", "时间戳不是秒数")),
    }
    if parts.mchid != mchid {
        return Err(Refusal::signature("mchid", "商户号不存在"));
    }
    let Some(key) = platform.merchant(parts.serial_no) else {
        return Err(Refusal::signature("serial_no", "商户证书序列号有误"));
    };
    let message = [
        request.method.as_str().as_bytes(),
        request.target.as_bytes(),
        parts.timestamp.as_bytes(),
        parts.nonce_str.as_bytes(),
        request.body,
        b"",
    ]
    .join(&b'\n');
    check(&key, &message, parts.signature).map_err(|issue| mismatch(request, message.len(), issue))
}

fn check(key: &ParsedPublicKey, message: &[u8], signature: &str) -> Result<(), &'static str> {
    let signature = BASE64_STANDARD.decode(signature).map_err(|_| "签名不是base64")?;
    key.verify_sig(message, &signature).map_err(|_| "sign not match")
}

/// WeChat tells which message it verified, which is how a merchant finds a wrong URL or a changed body.
fn mismatch(request: &Request<'_>, length: usize, issue: &str) -> Refusal {
    let mut refusal = Refusal::signature("signature", issue);
    if let Some(detail) = &mut refusal.detail {
        detail["sign_information"] =
            json!({"method": request.method.as_str(), "url": request.target, "sign_message_length": length});
    }
    refusal
}

/// What every call must carry besides the signature (WeChat Pay: basic rules).
fn basic_rules(request: &Request<'_>) -> Result<(), Refusal> {
    let text = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = |name| text(name).to_ascii_lowercase();
    if text(header::USER_AGENT).is_empty() {
        return Err(Refusal::new(403, "NO_AUTH", "Http头缺少User-Agent", 268_435_461));
    }
    let accept = media(header::ACCEPT);
    if !accept.contains("application/json") && !accept.contains("*/*") {
        return Err(Refusal::new(406, "PARAM_ERROR", "Http头Accept必须为application/json", 268_435_461));
    }
    if !request.body.is_empty() && !media(header::CONTENT_TYPE).starts_with("application/json") {
        return Err(Refusal::new(415, "PARAM_ERROR", "Http头Content-Type必须为application/json", 268_435_461));
    }
    Ok(())
}

#[derive(Default)]
struct Parts<'a> {
    mchid: &'a str,
    nonce_str: &'a str,
    timestamp: &'a str,
    serial_no: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Five `name="value"` pairs in any order; each exactly once, none empty, none unknown.
    fn parse(header: &'a str) -> Result<Self, Refusal> {
        let malformed = || Refusal::signature("authorization", "Http头Authorization值格式错误");
        let pairs = header.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| {
            Refusal::signature("authorization", "Http头Authorization认证类型不是WECHATPAY2-SHA256-RSA2048")
        })?;
        let mut parts = Self::default();
        for pair in pairs.split(',') {
            let (name, value) = pair.trim().split_once('=').ok_or_else(malformed)?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(malformed)?;
            let part = match name {
                "mchid" => &mut parts.mchid,
                "nonce_str" => &mut parts.nonce_str,
                "timestamp" => &mut parts.timestamp,
                "serial_no" => &mut parts.serial_no,
                "signature" => &mut parts.signature,
                _ => return Err(malformed()),
            };
            if value.is_empty() || !part.is_empty() {
                return Err(malformed());
            }
            *part = value;
        }
        for (name, value) in [
            ("mchid", parts.mchid),
            ("nonce_str", parts.nonce_str),
            ("timestamp", parts.timestamp),
            ("serial_no", parts.serial_no),
            ("signature", parts.signature),
        ] {
            if value.is_empty() {
                return Err(Refusal::signature(name, "Http头Authorization缺少该字段"));
            }
        }
        Ok(parts)
    }
}
