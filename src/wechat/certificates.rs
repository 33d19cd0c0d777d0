//! Platform certificates: WeChat's list, opened and checked, and when it may be asked for.
//!
//! The first list is signed by a certificate we do not have yet. So it is decrypted first (only WeChat and we hold
//! the APIv3 key) and its signature is then checked with the certificates found inside, or with the WeChat Pay
//! public key when there is one: while a merchant migrates, WeChat signs with the kind of key our request names.

use crate::domain::json::json_fault;
use crate::wechat::aead::{OpenFault, Resource};
use crate::wechat::notification::NotificationKeys;
use crate::wechat::verify::{PlatformKey, PlatformKeyFault, SignatureFault};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use std::collections::HashSet;
use time::{Duration, OffsetDateTime};

/// WeChat lists a new certificate a day before using it and asks to poll within twelve hours.
pub const REFRESH_EVERY: Duration = Duration::hours(10);

/// Callbacks with invented serials must not turn us into a hammer.
const LEARN_AT_MOST_EVERY: Duration = Duration::minutes(1);

/// Why a list of certificates is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("list is {0}")]
    List(String),
    #[error("certificate {0}")]
    Sealed(#[from] OpenFault),
    #[error("certificate {0}")]
    Key(#[from] PlatformKeyFault),
    #[error("signature of the list: {0}")]
    Signature(#[from] SignatureFault),
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

// Serial and times are read from the certificate itself, so pages that misspell them (`"effective_time "`) are fine.
#[derive(Deserialize)]
struct Entry {
    encrypt_certificate: Resource,
}

/// Opens the answer of `GET /v3/certificates` and gives its certificates by serial.
pub fn open_list(
    headers: &HeaderMap,
    raw_body: &[u8],
    now: OffsetDateTime,
    keys: &NotificationKeys,
) -> Result<Vec<(String, PlatformKey)>, CertificateFault> {
    let list: List = serde_json::from_slice(raw_body).map_err(|error| CertificateFault::List(json_fault(&error)))?;
    let certificates = list
        .data
        .iter()
        .map(|entry| {
            let pem = keys.api_v3.open(&entry.encrypt_certificate)?;
            Ok(PlatformKey::from_certificate_pem(&pem)?)
        })
        .collect::<Result<Vec<_>, CertificateFault>>()?;
    keys.platform.with_certificates(certificates.iter().cloned()).verify(headers, raw_body, now)?;
    Ok(certificates)
}

/// Decides whether an unknown serial is worth a refresh: once per serial between two scheduled ones, and no more
/// than one a minute in all.
#[derive(Debug, Default)]
pub(super) struct LearnGate {
    asked: HashSet<String>,
    last: Option<OffsetDateTime>,
    /// WeChat has no certificates for this merchant, as it said when it was last asked.
    closed: bool,
    was_ever_closed: bool,
}

impl LearnGate {
    pub(super) fn allows(&mut self, serial: &str, now: OffsetDateTime) -> bool {
        let too_soon = self.last.is_some_and(|last| (now - last).abs() < LEARN_AT_MOST_EVERY);
        if self.closed || too_soon || self.asked.contains(serial) {
            return false;
        }
        self.asked.insert(serial.to_owned());
        self.last = Some(now);
        true
    }

    /// Forgets the serials, so that one which WeChat has begun to list is asked for again.
    pub(super) fn reset(&mut self) {
        self.asked.clear();
        self.closed = false;
    }

    /// Allows nothing until the next scheduled refresh: there are no certificates. Tells whether this is news.
    pub(super) fn close(&mut self) -> bool {
        self.closed = true;
        !std::mem::replace(&mut self.was_ever_closed, true)
    }
}
