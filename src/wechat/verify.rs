//! Decides whether an answer or a callback is WeChat's: its signature over the raw bytes, and its freshness.
//!
//! WeChat signs with a *WeChat Pay public key* (id `PUB_KEY_ID_…`, no expiry) or with a *platform certificate* (by
//! serial, five years). While a merchant migrates, both arrive side by side, callbacks in growing shares, so the
//! set holds any number of either and is chosen from by `Wechatpay-Serial` alone.
//!
//! Probes whose signature starts with `WECHATPAY/SIGNTEST/` are deliberately absent here: they are wrong
//! signatures and fail as such. Answering them with success would stop the re-sending of a true notification.

use crate::wechat::sign::SCHEME;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderMap;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Ids of WeChat Pay public keys start like this; any other `Wechatpay-Serial` is a certificate's.
pub const PUBLIC_KEY_ID_PREFIX: &str = "PUB_KEY_ID_";

/// WeChat's clock and ours may differ by less than this, either way.
pub const FRESH_SECONDS: u64 = 300;

/// Longest `Wechatpay-Serial` we look at: public key ids have been seen with up to 45 characters.
const SERIAL_MAX: usize = 64;

/// Why the bytes in hand are not taken as WeChat's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    #[error("header {0} is missing")]
    MissingHeader(&'static str),
    /// Repeated, not ASCII, too long, or a timestamp that is no number.
    #[error("header {0} is unreadable")]
    UnreadableHeader(&'static str),
    #[error("signature type is not {SCHEME}")]
    UnsupportedType,
    #[error("timestamp is {skew_seconds} s from our clock")]
    Stale { skew_seconds: i64 },
    /// No key of this id is held, or the certificate is out of its validity.
    #[error("no valid key with serial {0}")]
    UnknownSerial(String),
    /// Not base64, as in a SIGNTEST probe.
    #[error("signature is not base64")]
    Undecodable,
    #[error("signature does not match")]
    Mismatch,
}

impl SignatureFault {
    /// For metrics: stable, few, without the sender's text.
    pub fn label(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "header_missing",
            Self::UnreadableHeader(_) => "header_unreadable",
            Self::UnsupportedType => "type_unsupported",
            Self::Stale { .. } => "stale",
            Self::UnknownSerial(_) => "serial_unknown",
            Self::Undecodable => "undecodable",
            Self::Mismatch => "mismatch",
        }
    }
}

/// Why a key cannot verify for WeChat Pay.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformKeyFault {
    #[error("is not a public key in PEM (BEGIN PUBLIC KEY)")]
    NotPublicKey,
    #[error("is not an X.509 certificate in PEM")]
    NotCertificate,
    #[error("is not an RSA key")]
    NotRsa,
    /// A 1024-bit key would parse and then refuse every signature.
    #[error("is an RSA key of {0} bits; WeChat Pay uses 2048")]
    Size(usize),
}

/// One key WeChat may sign with.
#[derive(Clone)]
pub struct PlatformKey {
    key: ParsedPublicKey,
    /// From and until; a WeChat Pay public key has no limits.
    validity: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl PlatformKey {
    /// A WeChat Pay public key (`wxp_pub.pem`), downloaded by hand from the merchant platform.
    pub fn from_public_key_pem(pem: &[u8]) -> Result<Self, PlatformKeyFault> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| PlatformKeyFault::NotPublicKey)?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(der.as_ref()).map_err(|_| PlatformKeyFault::NotPublicKey)?;
        Ok(Self { key: rsa_key(&spki)?, validity: None })
    }

    /// A platform certificate, and its serial in WeChat's spelling (upper-case hex).
    pub fn from_certificate_pem(pem: &[u8]) -> Result<(String, Self), PlatformKeyFault> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| PlatformKeyFault::NotCertificate)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| PlatformKeyFault::NotCertificate)?;
        let validity = certificate.validity();
        let key = Self {
            key: rsa_key(certificate.public_key())?,
            validity: Some((validity.not_before.to_datetime(), validity.not_after.to_datetime())),
        };
        Ok((certificate_serial(&certificate), key))
    }

    fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        self.validity.is_none_or(|(from, until)| from <= now && now <= until)
    }
}

/// The serial as WeChat writes it: upper-case hex of its bytes, without the sign byte that DER puts in front.
pub(super) fn certificate_serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let magnitude = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    magnitude.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn rsa_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<ParsedPublicKey, PlatformKeyFault> {
    let Ok(PublicKey::RSA(rsa)) = spki.parsed() else {
        return Err(PlatformKeyFault::NotRsa);
    };
    if rsa.key_size() != 2048 {
        return Err(PlatformKeyFault::Size(rsa.key_size()));
    }
    ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki.raw).map_err(|_| PlatformKeyFault::NotRsa)
}

type Ring = HashMap<String, PlatformKey>;

/// Every key WeChat may sign with at present, by serial or id. Readers never wait for a refresh.
#[derive(Default)]
pub struct PlatformKeys {
    ring: RwLock<Arc<Ring>>,
}

impl PlatformKeys {
    /// Starts from the configured public keys; certificates come later, by refresh.
    pub fn new(public_keys: impl IntoIterator<Item = (String, PlatformKey)>) -> Self {
        Self { ring: RwLock::new(Arc::new(public_keys.into_iter().collect())) }
    }

    /// Takes WeChat's newest list of certificates in place of the one before; public keys stay.
    pub fn replace_certificates(&self, certificates: impl IntoIterator<Item = (String, PlatformKey)>) {
        let ring = self.with_certificates(certificates).ring();
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
    }

    /// As these keys would be with that list of certificates.
    pub(super) fn with_certificates(&self, certificates: impl IntoIterator<Item = (String, PlatformKey)>) -> Self {
        let held = self.ring();
        let public_keys =
            held.iter().filter(|(_, key)| key.validity.is_none()).map(|(id, key)| (id.clone(), key.clone()));
        Self::new(public_keys.chain(certificates))
    }

    /// Ids and serials held, sorted, for logs and `config check`.
    pub fn serials(&self) -> Vec<String> {
        let mut serials: Vec<_> = self.ring().keys().cloned().collect();
        serials.sort_unstable();
        serials
    }

    /// Checks that `raw_body`, untouched as it came from the wire, was signed by WeChat within the last minutes.
    pub fn verify(&self, headers: &HeaderMap, raw_body: &[u8], now: OffsetDateTime) -> Result<(), SignatureFault> {
        verify_with(&self.ring(), headers, raw_body, now)
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlatformKeys").field(&self.serials()).finish()
    }
}

fn verify_with(ring: &Ring, headers: &HeaderMap, raw_body: &[u8], now: OffsetDateTime) -> Result<(), SignatureFault> {
    // Left out, the type is RSA; the official clients differ in whether they insist on the header.
    match header(headers, "wechatpay-signature-type") {
        Ok(SCHEME) | Err(SignatureFault::MissingHeader(_)) => {}
        Ok(_) => return Err(SignatureFault::UnsupportedType),
        Err(fault) => return Err(fault),
    }
    let timestamp = header(headers, "wechatpay-timestamp")?;
    let nonce = header(headers, "wechatpay-nonce")?;
    let serial = header(headers, "wechatpay-serial")?;
    let signature = header(headers, "wechatpay-signature")?;

    let seconds: i64 = timestamp.parse().map_err(|_| SignatureFault::UnreadableHeader("wechatpay-timestamp"))?;
    let skew_seconds = now.unix_timestamp().saturating_sub(seconds);
    if skew_seconds.unsigned_abs() >= FRESH_SECONDS {
        return Err(SignatureFault::Stale { skew_seconds });
    }
    if serial.len() > SERIAL_MAX {
        return Err(SignatureFault::UnreadableHeader("wechatpay-serial"));
    }
    let key = ring
        .get(serial)
        .filter(|key| key.is_valid_at(now))
        .ok_or_else(|| SignatureFault::UnknownSerial(serial.to_owned()))?;
    let signature = BASE64.decode(signature).map_err(|_| SignatureFault::Undecodable)?;

    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(raw_body);
    message.push(b'\n');
    key.key.verify_sig(&message, &signature).map_err(|_| SignatureFault::Mismatch)
}

/// The one value of a header. Two values are refused: the next reader of the message might take the other.
fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, SignatureFault> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureFault::MissingHeader(name))?;
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(text),
        _ => Err(SignatureFault::UnreadableHeader(name)),
    }
}
