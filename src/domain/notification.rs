//! What customers are told, by kind. At most one message per (order, kind), for ever.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a customer is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Paid and booked.
    BookingConfirmed,
    /// No seat could be had.
    BookingFailed,
    HoldLapsed,
    OrderExpired,
    /// Paid too late for a seat: the money is on its way back.
    PaymentReceived,
    Refunded,
    WaitlistOffer,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::BookingConfirmed,
        Self::BookingFailed,
        Self::HoldLapsed,
        Self::OrderExpired,
        Self::PaymentReceived,
        Self::Refunded,
        Self::WaitlistOffer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BookingConfirmed => "booking_confirmed",
            Self::BookingFailed => "booking_failed",
            Self::HoldLapsed => "hold_lapsed",
            Self::OrderExpired => "order_expired",
            Self::PaymentReceived => "payment_received",
            Self::Refunded => "refunded",
            Self::WaitlistOffer => "waitlist_offer",
        }
    }
}

/// How far a message got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationStatus {
    Pending,
    /// WeChat accepted it (which is not yet delivery).
    Sent,
    /// WeChat refused it for good; the code is kept.
    Failed,
    /// The answer was lost and WeChat's ten minutes of remembering `client_msg_id` are over.
    Uncertain,
}

impl NotificationStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Sent, Self::Failed, Self::Uncertain];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}
