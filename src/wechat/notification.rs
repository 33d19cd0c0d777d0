//! Reads a callback: signature, then envelope, then decryption, then the document inside. No IO.
//!
//! The ingress answers a [`NotificationFault::Signature`] with 401 and a [`NotificationFault::Unreadable`] with
//! 400; WeChat then sends again (fifteen times over a day), which is also what a SIGNTEST probe needs.

use crate::domain::{
    calendar::lenient,
    json::{self, json_fault},
    text::plain,
};
use crate::wechat::aead::{ApiV3Keys, OpenFault, Resource};
use crate::wechat::refund::Refund;
use crate::wechat::transaction::Transaction;
use crate::wechat::verify::{Admission, PlatformKeys, SignatureFault};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

/// The event of a test callback, which `POST /v3/security/echo` asks for.
pub const ECHO_EVENT: &str = "SECURITY_ECHO.SUCCESS";

/// A callback about a payment. It is WeChat's; whether it fits one of our orders is the reader's to compare.
pub type PaymentNotification = Notification<Transaction>;
/// A callback about a refund.
pub type RefundNotification = Notification<Refund>;

/// A callback WeChat has signed, opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification<T> {
    /// The same for every re-sending. Two callbacks of one payment may still differ in it.
    pub id: String,
    /// `TRANSACTION.SUCCESS`, `REFUND.SUCCESS`, `REFUND.ABNORMAL`, `REFUND.CLOSED`.
    pub event_type: String,
    /// Nothing is decided by it, so one that cannot be read is none.
    pub create_time: Option<OffsetDateTime>,
    pub content: T,
}

/// Why a callback is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotificationFault {
    #[error("signature: {0}")]
    Signature(#[from] SignatureFault),
    #[error("unreadable: {0}")]
    Unreadable(#[from] Unreadable),
}

/// Why a callback with a right signature cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("envelope is {0}")]
    Envelope(String),
    /// The callback is WeChat's and, if it is a test callback, opens with our APIv3 key.
    #[error("event {0} does not belong here")]
    Event(String),
    #[error("content {0}")]
    Sealed(#[from] OpenFault),
    #[error("content is {0}")]
    Content(String),
}

impl NotificationFault {
    /// For metrics: stable and few.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Signature(fault) => fault.label(),
            Self::Unreadable(Unreadable::Envelope(_)) => "envelope",
            Self::Unreadable(Unreadable::Event(_)) => "event",
            Self::Unreadable(Unreadable::Sealed(OpenFault::Authentication)) => "decryption",
            Self::Unreadable(Unreadable::Sealed(_)) => "sealing",
            Self::Unreadable(Unreadable::Content(_)) => "content",
        }
    }
}

/// What reading a callback needs of the merchant.
#[derive(Debug)]
pub struct NotificationKeys {
    pub platform: PlatformKeys,
    pub api_v3: ApiV3Keys,
}

/// Reads `POST …/notify/payments`. `raw_body` must be the untouched bytes from the wire.
pub fn read_payment_notification(
    headers: &HeaderMap,
    raw_body: &[u8],
    now: OffsetDateTime,
    keys: &NotificationKeys,
) -> Result<PaymentNotification, NotificationFault> {
    read_admitted_payment(&keys.platform.admit(headers, now)?, raw_body, &keys.api_v3)
}

/// As [`read_payment_notification`], for a reader who looks at the headers before the body is there.
///
/// # Errors
/// A wrong signature, or a content that cannot be read.
pub fn read_admitted_payment(
    admission: &Admission,
    raw_body: &[u8],
    keys: &ApiV3Keys,
) -> Result<PaymentNotification, NotificationFault> {
    read(admission, raw_body, keys, "TRANSACTION.")
}

/// Reads `POST …/notify/refunds`, with the same rules.
pub fn read_refund_notification(
    headers: &HeaderMap,
    raw_body: &[u8],
    now: OffsetDateTime,
    keys: &NotificationKeys,
) -> Result<RefundNotification, NotificationFault> {
    read_admitted_refund(&keys.platform.admit(headers, now)?, raw_body, &keys.api_v3)
}

/// As [`read_refund_notification`], for a reader who looks at the headers before the body is there.
///
/// # Errors
/// A wrong signature, or a content that cannot be read.
pub fn read_admitted_refund(
    admission: &Admission,
    raw_body: &[u8],
    keys: &ApiV3Keys,
) -> Result<RefundNotification, NotificationFault> {
    read(admission, raw_body, keys, "REFUND.")
}

/// Longest id of a notification that is kept, in characters: it is a key of our books. WeChat's have 36.
const ID_MAX: usize = 128;

#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(default, with = "lenient")]
    create_time: Option<OffsetDateTime>,
    event_type: String,
    resource: Resource,
}

fn read<T: DeserializeOwned>(
    admission: &Admission,
    raw_body: &[u8],
    keys: &ApiV3Keys,
    events: &str,
) -> Result<Notification<T>, NotificationFault> {
    admission.verify(raw_body)?;
    let envelope: Envelope = json::read_plain(raw_body).map_err(|error| Unreadable::Envelope(json_fault(&error)))?;
    let opened = keys.open(&envelope.resource).map_err(Unreadable::Sealed);
    if !envelope.event_type.starts_with(events) {
        // A callback that does not open with our key shows that the key is wrong, whatever the callback is about. A
        // strange event may be sealed in a way of its own; the test callback is not.
        return Err(match opened {
            Err(fault) if envelope.event_type == ECHO_EVENT => fault,
            Err(fault @ Unreadable::Sealed(OpenFault::Authentication)) => fault,
            _ => Unreadable::Event(plain(&envelope.event_type, ID_MAX)),
        }
        .into());
    }
    let content = json::read_plain(&opened?).map_err(|error| Unreadable::Content(json_fault(&error)))?;
    let (id, event_type) = (plain(&envelope.id, ID_MAX), plain(&envelope.event_type, ID_MAX));
    Ok(Notification { id, event_type, create_time: envelope.create_time, content })
}
