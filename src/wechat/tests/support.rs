//! WeChat's side for the tests: a key that signs, a certificate that carries it, a server that answers.

use crate::wechat::Ambient;
use crate::wechat::account::PayAccount;
use crate::wechat::aead::{ApiV3Key, ApiV3Keys};
use crate::wechat::exchange::PayClient;
use crate::wechat::notification::NotificationKeys;
use crate::wechat::settings::PaySettings;
use crate::wechat::sign::SCHEME;
use crate::wechat::verify::{PlatformKey, PlatformKeys};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use time::OffsetDateTime;

pub(super) const API_V3_KEY: &str = "0123456789abcdefghijABCDEFGHIJ!!";
pub(super) const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0100000000000000000000000000000001";
pub(super) const MERCHANT_SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";
pub(super) const NOW: i64 = 1_764_000_000;

pub(super) static MERCHANT: LazyLock<KeyPair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static PLATFORM: LazyLock<KeyPair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static STRANGER: LazyLock<KeyPair> = LazyLock::new(|| rsa(KeySize::Rsa2048));

pub(super) fn rsa(size: KeySize) -> KeyPair {
    KeyPair::generate(size).expect("the library makes keys")
}

pub(super) fn now() -> OffsetDateTime {
    at(NOW)
}

pub(super) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a date")
}

pub(super) fn ambient() -> Ambient {
    Ambient { now, nonce: || "593BEC0C930BF1AFEB40B4A08C8FB242".to_owned() }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<_> = BASE64.encode(der).into_bytes();
    let lines: Vec<_> = lines.chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(super) fn private_pem(key: &KeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().expect("a private key encodes");
    pem("PRIVATE KEY", der.as_ref())
}

fn spki(key: &KeyPair) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("a public key encodes");
    der.as_ref().to_vec()
}

pub(super) fn public_pem(key: &KeyPair) -> String {
    pem("PUBLIC KEY", &spki(key))
}

fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("a key signs");
    signature
}

pub(super) fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        map.append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    map
}

/// WeChat's signature headers over `body`.
pub(super) fn signed_headers(key: &KeyPair, serial: &str, seconds: i64, body: &[u8]) -> HeaderMap {
    let mut message = format!("{seconds}\nanswernonce\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    header_map(&[
        ("Wechatpay-Timestamp", &seconds.to_string()),
        ("Wechatpay-Nonce", "answernonce"),
        ("Wechatpay-Serial", serial),
        ("Wechatpay-Signature", &BASE64.encode(sign(key, &message))),
        ("Wechatpay-Signature-Type", SCHEME),
        ("Request-ID", "08F2-0"),
    ])
}

pub(super) fn platform_keys() -> PlatformKeys {
    let key = PlatformKey::from_public_key_pem(public_pem(&PLATFORM).as_bytes());
    PlatformKeys::new([(PUBLIC_KEY_ID.to_owned(), key.expect("a good key"))])
}

pub(super) fn api_v3(key: &str) -> ApiV3Keys {
    ApiV3Keys::new(ApiV3Key::new(key).expect("32 bytes"), None)
}

pub(super) fn notification_keys() -> NotificationKeys {
    NotificationKeys { platform: platform_keys(), api_v3: api_v3(API_V3_KEY) }
}

/// AEAD_AES_256_GCM as WeChat seals.
pub(super) fn seal(key: &str, nonce: &str, associated_data: &str, text: &[u8]) -> String {
    let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("32 bytes");
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).expect("12 bytes");
    let mut sealed = text.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::from(associated_data.as_bytes()), &mut sealed)
        .expect("seals");
    BASE64.encode(sealed)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant: Vec<_> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(significant.len()).expect("at most eight"));
            out.extend(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A self-signed X.509 certificate, the smallest there is; valid from 2025 to 2030.
pub(super) fn certificate_pem(key: &KeyPair, serial: &[u8]) -> String {
    // sha256WithRSAEncryption with NULL parameters.
    let algorithm =
        der(0x30, &[der(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]), der(0x05, &[])].concat());
    let nobody = der(0x30, &[]);
    let validity = der(0x30, &[der(0x17, b"250101000000Z"), der(0x17, b"300101000000Z")].concat());
    let version = der(0xa0, &der(0x02, &[2]));
    let tbs = der(
        0x30,
        &[version, der(0x02, serial), algorithm.clone(), nobody.clone(), validity, nobody, spki(key)].concat(),
    );
    let signature = der(0x03, &[vec![0], sign(key, &tbs)].concat());
    pem("CERTIFICATE", &der(0x30, &[tbs, algorithm, signature].concat()))
}

pub(super) fn settings(base_url: &str) -> PaySettings {
    PaySettings {
        base_url: Some(base_url.to_owned()),
        appid: Some("wx8888888888888888".to_owned()),
        mchid: Some("1900000109".to_owned()),
        merchant_serial_no: Some(MERCHANT_SERIAL.to_owned()),
        merchant_private_key: Some(SecretString::from(private_pem(&MERCHANT))),
        apiv3_key: Some(SecretString::from(API_V3_KEY)),
        public_key_id: Some(PUBLIC_KEY_ID.to_owned()),
        public_key: Some(SecretString::from(public_pem(&PLATFORM))),
        notify_url: Some("http://127.0.0.1:8080/v1/wechat/notify/payments".to_owned()),
        timeout_ms: Some(2_000),
        ..PaySettings::default()
    }
}

pub(super) fn account(settings: &PaySettings) -> PayAccount {
    settings.load().expect("good settings")
}

pub(super) fn client(settings: &PaySettings) -> PayClient {
    PayClient::new(Arc::new(account(settings)), ambient()).expect("a client")
}

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What the pretended WeChat answers.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Status, headers, body.
    Http(u16, HeaderMap, Vec<u8>),
    /// The connection ends without a word, as after a deed whose answer is lost.
    Nothing,
}

impl Reply {
    pub(super) fn signed(status: u16, body: &str) -> Self {
        let headers = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, body.as_bytes());
        Self::Http(status, headers, body.into())
    }

    pub(super) fn plain(status: u16, body: &str) -> Self {
        Self::Http(status, HeaderMap::new(), body.into())
    }
}

/// A server that gives these replies in turn and remembers what it was asked.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn start(replies: Vec<Reply>) -> Self {
        Self::start_with(|_| replies)
    }

    /// With replies that name the server's own address.
    pub(super) fn start_with(replies: impl FnOnce(&str) -> Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let replies = replies(&url);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for reply in replies {
                let (stream, _) = listener.accept().expect("a caller");
                let mut reader = BufReader::new(stream);
                log.lock().expect("log").push(read_request(&mut reader));
                let Reply::Http(status, headers, body) = reply else {
                    continue;
                };
                let mut out = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
                if status != 204 {
                    out += &format!("Content-Length: {}\r\n", body.len());
                }
                for (name, value) in &headers {
                    out += &format!("{name}: {}\r\n", value.to_str().expect("text"));
                }
                let mut stream = reader.into_inner();
                let whole = [out.as_bytes(), b"\r\n", &body].concat();
                stream.write_all(&whole).expect("the caller listens");
            }
        });
        Self { url, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }
}

fn read_request(reader: &mut impl std::io::BufRead) -> Seen {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let headers: Vec<_> = lines[1..].iter().map(|line| line.split_once(": ").expect("a header")).collect();
    let headers = header_map(&headers);
    let length = headers.get("content-length").map_or(0, |n| n.to_str().expect("text").parse().expect("a number"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Seen { line: lines[0].clone(), headers, body }
}
