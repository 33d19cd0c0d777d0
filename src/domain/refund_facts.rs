//! What WeChat reports of a refund, as a message carries it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{money::Fen, refund::RefundStanding};

/// What WeChat says of a refund: the signed facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundFacts {
    /// As WeChat spelled it; it may name no refund of ours.
    pub out_refund_no: String,
    pub out_trade_no: String,
    /// WeChat's own number of the refund.
    pub wechat_refund_id: String,
    pub standing: RefundStanding,
    pub refund_fen: Fen,
    #[serde(default, with = "crate::domain::calendar::lenient")]
    pub success_time: Option<OffsetDateTime>,
    /// What must agree with our books before anything is settled. Empty in messages of earlier releases.
    #[serde(default)]
    pub told: RefundTold,
}

/// What WeChat reports of a refund beside its number and sum; `None` where it leaves a field out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundTold {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mchid: Option<String>,
    /// The payment that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// The sum of that payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_fen: Option<Fen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// Who had a refund taken into the books that WeChat made without us, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenIn {
    /// `operator:…`
    pub operator: String,
    pub reason: String,
}
