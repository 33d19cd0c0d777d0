//! Reads a callback: signature, then envelope, then decryption, then the document inside. No IO.
//!
//! The ingress answers a [`NotificationFault::Signature`] with 401 and a [`NotificationFault::Unreadable`] with
//! 400; WeChat then sends again (fifteen times over a day), which is also what a SIGNTEST probe needs.

use crate::domain::json::json_fault;
use crate::wechat::aead::{ApiV3Keys, OpenFault, Resource};
use crate::wechat::refund::Refund;
use crate::wechat::transaction::Transaction;
use crate::wechat::verify::{PlatformKeys, SignatureFault};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

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
    pub create_time: OffsetDateTime,
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
    read(headers, raw_body, now, keys, "TRANSACTION.")
}

/// Reads `POST …/notify/refunds`, with the same rules.
pub fn read_refund_notification(
    headers: &HeaderMap,
    raw_body: &[u8],
    now: OffsetDateTime,
    keys: &NotificationKeys,
) -> Result<RefundNotification, NotificationFault> {
    read(headers, raw_body, now, keys, "REFUND.")
}

#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(with = "time::serde::rfc3339")]
    create_time: OffsetDateTime,
    event_type: String,
    resource: Resource,
}

fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    raw_body: &[u8],
    now: OffsetDateTime,
    keys: &NotificationKeys,
    events: &str,
) -> Result<Notification<T>, NotificationFault> {
    keys.platform.verify(headers, raw_body, now)?;
    let envelope: Envelope =
        serde_json::from_slice(raw_body).map_err(|error| Unreadable::Envelope(json_fault(&error)))?;
    if !envelope.event_type.starts_with(events) {
        return Err(Unreadable::Event(envelope.event_type).into());
    }
    let content = keys.api_v3.open(&envelope.resource).map_err(Unreadable::Sealed)?;
    let content = serde_json::from_slice(&content).map_err(|error| Unreadable::Content(json_fault(&error)))?;
    Ok(Notification { id: envelope.id, event_type: envelope.event_type, create_time: envelope.create_time, content })
}
