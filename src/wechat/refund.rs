//! WeChat's document about a refund, as the refund calls answer it and a refund callback carries it.

use crate::domain::{
    calendar::lenient,
    message::{RefundFacts, RefundTold},
    money::Fen,
    refund::RefundStanding,
};
use crate::wechat::transaction::{is_number, word};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Longest `out_refund_no`.
const REFUND_NO_MAX: usize = 64;

/// A refund as WeChat sees it.
///
/// Answers call the state `status`, callbacks `refund_status`; both are read. Callbacks bring neither currency
/// nor appid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mchid: Option<String>,
    pub refund_id: String,
    pub out_refund_no: String,
    pub transaction_id: String,
    pub out_trade_no: String,
    #[serde(alias = "refund_status")]
    pub status: RefundStatus,
    /// When WeChat took it. Answers have it, callbacks do not.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "lenient")]
    pub create_time: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "lenient")]
    pub success_time: Option<OffsetDateTime>,
    pub amount: RefundAmount,
}

impl Refund {
    /// The signed facts, nothing concluded; `None` when WeChat says a word this program does not know, or what can be
    /// no refund's: for a person.
    pub fn facts(&self) -> Option<RefundFacts> {
        if !is_number(&self.out_refund_no, REFUND_NO_MAX) || !Fen(self.amount.refund).is_amount() {
            return None;
        }
        let standing = match self.status {
            RefundStatus::Success => RefundStanding::Success,
            RefundStatus::Closed => RefundStanding::Closed,
            RefundStatus::Processing => RefundStanding::Processing,
            RefundStatus::Abnormal => RefundStanding::Abnormal,
            RefundStatus::Other(_) => return None,
        };
        Some(RefundFacts {
            out_refund_no: self.out_refund_no.clone(),
            out_trade_no: word(&self.out_trade_no),
            wechat_refund_id: word(&self.refund_id),
            standing,
            refund_fen: Fen(self.amount.refund),
            success_time: self.success_time,
            told: RefundTold {
                mchid: self.mchid.as_deref().map(word),
                transaction_id: Some(word(&self.transaction_id)),
                total_fen: Some(Fen(self.amount.total)),
                currency: self.amount.currency.as_deref().map(word),
            },
        })
    }
}

/// Integer fen: `total` of the order, `refund` of this refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundAmount {
    pub total: i64,
    pub refund: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_total: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_refund: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// WeChat's word on a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RefundStatus {
    Success,
    /// Dropped. Now, and only now, a new `out_refund_no` is allowed.
    Closed,
    Processing,
    /// The payer's card or account cannot take it; the money is still owed.
    Abnormal,
    /// A word WeChat did not have when this was written.
    Other(String),
}

impl RefundStatus {
    /// WeChat's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Success => "SUCCESS",
            Self::Closed => "CLOSED",
            Self::Processing => "PROCESSING",
            Self::Abnormal => "ABNORMAL",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for RefundStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "SUCCESS" => Self::Success,
            "CLOSED" => Self::Closed,
            "PROCESSING" => Self::Processing,
            "ABNORMAL" => Self::Abnormal,
            _ => Self::Other(word),
        }
    }
}

impl From<RefundStatus> for String {
    fn from(status: RefundStatus) -> Self {
        status.as_str().to_owned()
    }
}
