//! WeChat's document about a payment, as a query answers it and a payment callback carries it.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

use crate::domain::{
    calendar::lenient,
    message::Payment,
    money::Fen,
    text::{misleads, plain},
};

/// A payment as WeChat sees it. An unpaid order lacks most members; unknown members are ignored.
///
/// Read it through [`Transaction::standing`], which says what it means for the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mchid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    pub trade_state: TradeState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trade_state_desc: Option<String>,
    /// `NATIVE`, `JSAPI`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trade_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "lenient")]
    pub success_time: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Payer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// Coupons, kept as they came for the books; nothing is decided from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_detail: Option<serde_json::Value>,
}

/// Who paid. The openid is personal and shows in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openid: Option<String>,
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payer(…)")
    }
}

/// Integer fen. `payer_total` is below `total` when a coupon paid a part; the order's price is `total`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_total: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_currency: Option<String>,
}

/// WeChat's `trade_state`. `Revoked`, `UserPaying` and `PayError` belong to payment codes and are only tolerated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TradeState {
    Success,
    /// A refund was begun, of all or a part; so the order was paid.
    Refund,
    NotPay,
    Closed,
    Revoked,
    UserPaying,
    PayError,
    /// A word WeChat did not have when this was written.
    Other(String),
}

impl TradeState {
    /// WeChat's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Success => "SUCCESS",
            Self::Refund => "REFUND",
            Self::NotPay => "NOTPAY",
            Self::Closed => "CLOSED",
            Self::Revoked => "REVOKED",
            Self::UserPaying => "USERPAYING",
            Self::PayError => "PAYERROR",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for TradeState {
    fn from(word: String) -> Self {
        match word.as_str() {
            "SUCCESS" => Self::Success,
            "REFUND" => Self::Refund,
            "NOTPAY" => Self::NotPay,
            "CLOSED" => Self::Closed,
            "REVOKED" => Self::Revoked,
            "USERPAYING" => Self::UserPaying,
            "PAYERROR" => Self::PayError,
            _ => Self::Other(word),
        }
    }
}

impl From<TradeState> for String {
    fn from(state: TradeState) -> Self {
        state.as_str().to_owned()
    }
}

/// Longest `out_trade_no` and `transaction_id`, in characters.
const TRADE_NO_MAX: usize = 32;
/// Longest word that is kept of a document, in characters; the longest known one has 32.
const WORD_MAX: usize = 64;
/// Two of them and a word are a message's id, which holds 255 bytes.
const NUMBER_BYTES_MAX: usize = 100;

/// WeChat's numbers are short and visible; what is signed and strange is a person's to judge, as long as it fits.
pub(super) fn is_number(text: &str, max: usize) -> bool {
    (1..=NUMBER_BYTES_MAX).contains(&text.len())
        && text.chars().count() <= max
        // U+FFFD stands where `read_plain` found what no number has.
        && !text.chars().any(|c| misleads(c) || c.is_whitespace() || c == '\u{FFFD}')
}

/// A word of WeChat's that is kept: plain, and no longer than an index or a line can bear.
pub(super) fn word(text: &str) -> String {
    plain(text, WORD_MAX)
}

/// What a transaction means for its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Money was taken, whatever was given back since.
    Paid(Box<Payment>),
    /// Nobody paid yet and somebody still may, even past `time_expire`: only a close ends that.
    Unpaid,
    /// Can never be paid any more.
    Closed,
    /// A state or a shape this program does not understand; for a person.
    Unclear(&'static str),
}

impl Transaction {
    pub fn standing(&self) -> Standing {
        match &self.trade_state {
            TradeState::Success | TradeState::Refund => {
                self.payment().map_or(Standing::Unclear("paid, without its number or amount"), |payment| {
                    Standing::Paid(Box::new(payment))
                })
            }
            TradeState::NotPay | TradeState::UserPaying | TradeState::PayError => Standing::Unpaid,
            TradeState::Closed | TradeState::Revoked => Standing::Closed,
            TradeState::Other(_) => Standing::Unclear("unknown trade_state"),
        }
    }

    /// Everything that must be compared with the order before it settles; `None` when a part is missing or can be
    /// no payment's. A time that is missing or outside the calendar is no reason: the money is there.
    fn payment(&self) -> Option<Payment> {
        let amount = self
            .amount
            .as_ref()
            .filter(|amount| amount.payer_total.is_none_or(|fen| fen == 0 || Fen(fen).is_amount()))?;
        Some(Payment {
            out_trade_no: self.out_trade_no.clone().filter(|number| is_number(number, TRADE_NO_MAX))?,
            transaction_id: self.transaction_id.clone().filter(|number| is_number(number, TRADE_NO_MAX))?,
            mchid: self.mchid.as_deref().map(word)?,
            appid: self.appid.as_deref().map(word)?,
            trade_type: self.trade_type.as_deref().map(word).unwrap_or_default(),
            bank_type: self.bank_type.as_deref().map(word),
            total_fen: amount.total.map(Fen).filter(|fen| fen.is_amount())?,
            payer_total_fen: amount.payer_total.map(Fen),
            currency: amount.currency.as_deref().map(word)?,
            success_time: self.success_time,
            refunded: self.trade_state == TradeState::Refund,
        })
    }
}
