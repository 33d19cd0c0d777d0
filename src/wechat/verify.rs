//! Decides whether an answer or a callback is WeChat's: its signature over the raw bytes, and its freshness.
//!
//! WeChat signs with a *WeChat Pay public key* (id `PUB_KEY_ID_…`, no expiry) or with a *platform certificate* (by
//! serial, five years). While a merchant migrates, both arrive side by side, callbacks in growing shares, so the
//! set holds any number of either and is chosen from by `Wechatpay-Serial` alone.
//!
//! Probes whose signature starts with `WECHATPAY/SIGNTEST/` are deliberately absent here: they are wrong
//! signatures and fail as such. Answering them with success would stop the re-sending of a true notification.

use crate::live::Live;
use crate::wechat::sign::SCHEME;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderMap;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
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

#[derive(Clone, Default)]
struct Ring {
    keys: HashMap<String, PlatformKey>,
    /// The WeChat Pay public key that we ask WeChat to sign with.
    preferred: Option<String>,
}

impl Ring {
    /// As this one with other keys of one kind: with or without validity.
    fn with(&self, kind: fn(&PlatformKey) -> bool, keys: impl IntoIterator<Item = (String, PlatformKey)>) -> Self {
        let others = self.keys.iter().filter(|(_, key)| !kind(key)).map(|(id, key)| (id.clone(), key.clone()));
        Self { keys: others.chain(keys).collect(), preferred: self.preferred.clone() }
    }
}

fn is_certificate(key: &PlatformKey) -> bool {
    key.validity.is_some()
}

fn is_public_key(key: &PlatformKey) -> bool {
    key.validity.is_none()
}

/// Every key WeChat may sign with at present, by serial or id. Readers never wait for a refresh.
pub struct PlatformKeys {
    ring: Live<Ring>,
    /// Certificates are refreshed and public keys read again by different tasks; neither may lose the other's.
    changing: Mutex<()>,
}

impl PlatformKeys {
    /// Starts from the configured public keys, the preferred one first; certificates come later, by refresh.
    pub fn new(public_keys: impl IntoIterator<Item = (String, PlatformKey)>) -> Self {
        let mut public_keys = public_keys.into_iter().peekable();
        let preferred = public_keys.peek().map(|(id, _)| id.clone());
        let ring = Live::new(Ring { keys: public_keys.collect(), preferred });
        Self { ring, changing: Mutex::default() }
    }

    /// Takes WeChat's newest list of certificates in place of the one before; public keys stay.
    pub fn replace_certificates(&self, certificates: impl IntoIterator<Item = (String, PlatformKey)>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.ring.replace(self.ring.get().with(is_certificate, certificates));
    }

    /// Takes the public keys of `fresh` in place of these; certificates stay.
    pub(super) fn replace_public_keys(&self, fresh: &Self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = fresh.ring.get();
        let public_keys =
            fresh.keys.iter().filter(|(_, key)| is_public_key(key)).map(|(id, key)| (id.clone(), key.clone()));
        let ring = self.ring.get().with(is_public_key, public_keys);
        self.ring.replace(Ring { preferred: fresh.preferred.clone(), ..ring });
    }

    /// As these keys would be with that list of certificates.
    pub(super) fn with_certificates(&self, certificates: impl IntoIterator<Item = (String, PlatformKey)>) -> Self {
        let ring = Live::new(self.ring.get().with(is_certificate, certificates));
        Self { ring, changing: Mutex::default() }
    }

    /// Whether one of these keys is this one, PKCS#1 DER.
    pub(super) fn hold(&self, pkcs1: &[u8]) -> bool {
        // The bytes of a SubjectPublicKeyInfo end with those of its key.
        self.ring.get().keys.values().any(|key| key.key.as_ref().ends_with(pkcs1))
    }

    /// Sent with every call in public-key mode, so that WeChat answers with that key.
    pub fn preferred(&self) -> Option<String> {
        self.ring.get().preferred.clone()
    }

    /// Ids and serials held, sorted, for logs and `config check`.
    pub fn serials(&self) -> Vec<String> {
        let mut serials: Vec<_> = self.ring.get().keys.keys().cloned().collect();
        serials.sort_unstable();
        serials
    }

    /// Checks the headers of a message alone: complete, stamped within the last minutes, under a key that is held.
    ///
    /// # Errors
    /// Every fault but [`SignatureFault::Mismatch`], which needs the body.
    pub fn admit(&self, headers: &HeaderMap, now: OffsetDateTime) -> Result<Admission, SignatureFault> {
        admit_with(&self.ring.get().keys, headers, now)
    }

    /// Checks that `raw_body`, untouched as it came from the wire, was signed by WeChat within the last minutes.
    pub fn verify(&self, headers: &HeaderMap, raw_body: &[u8], now: OffsetDateTime) -> Result<(), SignatureFault> {
        self.admit(headers, now)?.verify(raw_body)
    }
}

/// A message whose headers passed; whether it is WeChat's, its body decides.
pub struct Admission {
    key: PlatformKey,
    signature: Vec<u8>,
    /// The signed text up to the body.
    head: String,
}

impl Admission {
    /// Checks the signature over `raw_body`, untouched as it came from the wire.
    ///
    /// # Errors
    /// [`SignatureFault::Mismatch`].
    pub fn verify(&self, raw_body: &[u8]) -> Result<(), SignatureFault> {
        let message = [self.head.as_bytes(), raw_body, b"\n"].concat();
        self.key.key.verify_sig(&message, &self.signature).map_err(|_| SignatureFault::Mismatch)
    }
}

impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlatformKeys").field(&self.serials()).finish()
    }
}

fn admit_with(
    keys: &HashMap<String, PlatformKey>,
    headers: &HeaderMap,
    now: OffsetDateTime,
) -> Result<Admission, SignatureFault> {
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
    let key = keys
        .get(serial)
        .filter(|key| key.is_valid_at(now))
        .ok_or_else(|| SignatureFault::UnknownSerial(serial.to_owned()))?;
    let signature = BASE64.decode(signature).map_err(|_| SignatureFault::Undecodable)?;
    Ok(Admission { key: key.clone(), signature, head: format!("{timestamp}\n{nonce}\n") })
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
