//! What an exchange with WeChat lets us conclude, and what it does not.
//!
//! A call ends in one of two ways. `Ok` holds a fact: an answer of the 2xx class whose signature was checked. `Err`
//! holds an [`Inconclusive`]: the deed may or may not have been done, and [`Class`] says what may be tried next.
//! Errors usually come without a signature, so even "paid" or "closed" in one is a [`Claim`], to be settled by a
//! query, never booked.
//!
//! | class | seat, order and money | next step |
//! |---|---|---|
//! | `Unknown` | perhaps done | the same call with the same number and content, after back-off |
//! | `Busy` | not done | the same, slower |
//! | `Claimed` | WeChat says something about this number | ask by a call whose answer is signed |
//! | `Refused` | not done; this request is wrong | park this message, go on with the others |
//! | `Misconfigured` | not done; every request would fail | wait, probe with one request, alert |

use crate::domain::text::plain;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// The calls, named as in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    CreateOrder,
    QueryOrder,
    CloseOrder,
    CreateRefund,
    QueryRefund,
    TradeBill,
    DownloadBill,
    Certificates,
}

impl Call {
    pub const ALL: [Self; 8] = [
        Self::CreateOrder,
        Self::QueryOrder,
        Self::CloseOrder,
        Self::CreateRefund,
        Self::QueryRefund,
        Self::TradeBill,
        Self::DownloadBill,
        Self::Certificates,
    ];

    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::CreateOrder => "create_order",
            Self::QueryOrder => "query_order",
            Self::CloseOrder => "close_order",
            Self::CreateRefund => "create_refund",
            Self::QueryRefund => "query_refund",
            Self::TradeBill => "trade_bill",
            Self::DownloadBill => "download_bill",
            Self::Certificates => "certificates",
        }
    }
}

/// What may be tried after an exchange that proved nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No answer, or none that can be believed. It may have been done: repeat with identical content.
    Unknown,
    /// Not accepted for now: repeat with identical content, slower.
    Busy,
    /// WeChat's unsigned word about this number. Ask by a call whose answer is signed; book nothing from it.
    Claimed(Claim),
    /// This request can never succeed as it is. Our mistake in one message.
    Refused,
    /// Key, merchant, product, quota or clock: no request of this kind would succeed. Wait, probe with one, alert.
    Misconfigured,
}

impl Class {
    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Claimed(_) => "claimed",
            Self::Refused => "refused",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// What WeChat claims in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The order is paid. Query; the signed `SUCCESS` settles. Never a reason for a new number.
    Paid,
    /// The order is closed. Query.
    Closed,
    /// The number is known with other content, or its state does not allow the call. Query.
    Conflict,
    /// WeChat does not know the number. Creating it again under the same number is safe; closing an absent order
    /// gives a signed 204. For a new refund it can also mean that the payment is only minutes old: repeat, bounded.
    Absent,
    /// The merchant's balance does not cover the refund. Alert; same number once it does.
    NotEnough,
    /// The payer's account cannot take a refund any more. For a person.
    PayerAccountAbnormal,
}

/// An exchange that proved nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Inconclusive {
    pub call: Call,
    pub class: Class,
    /// HTTP status, when an answer came at all.
    pub status: Option<u16>,
    /// WeChat's code as spelled in the answer.
    pub code: Option<String>,
    /// WeChat's `Request-ID`, for asking their support.
    pub request_id: Option<String>,
    /// For people, never for a decision.
    pub detail: String,
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call.label(), self.class.label())?;
        if let Some(status) = self.status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl Inconclusive {
    /// Nothing came that could be believed.
    pub(super) fn unknown(
        call: Call,
        status: Option<u16>,
        request_id: Option<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { call, class: Class::Unknown, status, code: None, request_id, detail: detail.into() }
    }

    /// Reads an answer outside the 2xx class, or a 202, which means "accepted, not finished".
    pub fn from_answer(call: Call, status: u16, request_id: Option<String>, body: &[u8]) -> Self {
        let error: Option<ErrorBody> = serde_json::from_slice(body).ok();
        let code = error.as_ref().map(|error| plain(&error.code, ErrorBody::CODE_MAX));
        Self {
            call,
            class: classify(call, status, code.as_deref()),
            status: Some(status),
            request_id,
            detail: error.map_or_else(|| "no WeChat error in the body".to_owned(), |e| e.words()),
            code,
        }
    }
}

/// WeChat's error document.
#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    detail: Value,
}

impl ErrorBody {
    /// Twice the longest code there is. Whoever sends more is not WeChat, and unsigned answers are logged.
    const CODE_MAX: usize = 64;

    /// Message and detail for people. `detail.value` is left out: it repeats what we sent, an openid for instance.
    fn words(&self) -> String {
        let detail = &self.detail;
        let words = [&self.message, &detail["location"], &detail["field"], &detail["issue"]]
            .into_iter()
            .filter_map(Value::as_str)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        plain(&words, WORDS_MAX)
    }
}

/// Of WeChat's own words: long enough to understand, short enough for a log line.
pub(super) const WORDS_MAX: usize = 300;

/// Status first, then code, never the message: the order in which WeChat's rules want it.
fn classify(call: Call, status: u16, code: Option<&str>) -> Class {
    match (status, code) {
        (429, _) => Class::Busy,
        (202 | 400..=499, Some(code)) => by_code(call, &without_underscores(code)).unwrap_or(match status {
            202 => Class::Unknown,
            // Who we are, or what we may: in a code that is not listed too.
            401 | 403 => Class::Misconfigured,
            _ => Class::Refused,
        }),
        // A gateway's page, a redirect, a 5xx: nobody who knows the order has spoken.
        _ => Class::Unknown,
    }
}

/// Production spells `ORDERPAID` what the pages spell `ORDER_PAID`; so codes are compared without underscores.
fn without_underscores(code: &str) -> String {
    code.chars().filter(|c| *c != '_').collect()
}

/// Rows of the code table that hold for every call; a call's own row comes first.
const FOR_EVERY_CALL: &[(&str, Class)] = &[
    // WeChat Pay, general HTTP classes.
    ("PARAMERROR", Class::Refused),
    ("INVALIDREQUEST", Class::Refused),
    ("SIGNERROR", Class::Misconfigured),
    ("NOAUTH", Class::Misconfigured),
    ("MCHNOTEXISTS", Class::Misconfigured),
    ("APPIDMCHIDNOTMATCH", Class::Misconfigured),
    ("ACCOUNTERROR", Class::Misconfigured),
    ("RULELIMIT", Class::Misconfigured),
    ("FREQUENCYLIMITED", Class::Busy),
    ("FREQUENCYLIMITEXCEED", Class::Busy),
    ("RATELIMITEXCEEDED", Class::Busy),
    ("SYSTEMERROR", Class::Unknown),
    ("TRADEERROR", Class::Unknown),
    ("BIZERRNEEDRETRY", Class::Unknown),
    ("SERVICEUNAVAILABLE", Class::Unknown),
];

/// Native and JSAPI order, errors.
const CREATE_ORDER: &[(&str, Class)] = &[
    ("ORDERPAID", Class::Claimed(Claim::Paid)),
    ("ORDERCLOSED", Class::Claimed(Claim::Closed)),
    // The number with other content: "order number repeated", "parameters differ from the first request".
    ("INVALIDREQUEST", Class::Claimed(Claim::Conflict)),
    ("OUTTRADENOUSED", Class::Claimed(Claim::Conflict)),
];

/// Query by out_trade_no or transaction_id, errors.
const QUERY_ORDER: &[(&str, Class)] = &[
    ("ORDERNOTEXIST", Class::Claimed(Claim::Absent)),
    ("ORDERNOTEXISTS", Class::Claimed(Claim::Absent)),
    ("RESOURCENOTEXISTS", Class::Claimed(Claim::Absent)),
];

/// Close, errors. The pages disagree about which exist; after any of them the query tells.
const CLOSE_ORDER: &[(&str, Class)] = &[
    ("ORDERPAID", Class::Claimed(Claim::Paid)),
    ("ORDERCLOSED", Class::Claimed(Claim::Closed)),
    ("ORDERNOTEXIST", Class::Claimed(Claim::Absent)),
    ("ORDERNOTEXISTS", Class::Claimed(Claim::Absent)),
    ("INVALIDREQUEST", Class::Claimed(Claim::Conflict)),
    ("OUTTRADENOUSED", Class::Claimed(Claim::Conflict)),
    ("TRADEERROR", Class::Claimed(Claim::Conflict)),
    ("NOTENOUGH", Class::Claimed(Claim::Conflict)),
    // HTTP 202: somebody is paying at this moment.
    ("USERPAYING", Class::Busy),
];

/// Refund, errors. Whatever the class, the same out_refund_no is used again.
const CREATE_REFUND: &[(&str, Class)] = &[
    ("INVALIDREQUEST", Class::Claimed(Claim::Conflict)),
    ("NOTENOUGH", Class::Claimed(Claim::NotEnough)),
    ("USERACCOUNTABNORMAL", Class::Claimed(Claim::PayerAccountAbnormal)),
    ("RESOURCENOTEXISTS", Class::Claimed(Claim::Absent)),
    ("ORDERNOTEXIST", Class::Claimed(Claim::Absent)),
];

/// Query of a refund, and the list of certificates (merchants since October 2024 have none).
const QUERY_RESOURCE: &[(&str, Class)] = &[("RESOURCENOTEXISTS", Class::Claimed(Claim::Absent))];

/// Trade bill and its download, errors. A day without trade has no bill; an old link is asked for anew.
const BILL: &[(&str, Class)] =
    &[("NOSTATEMENTEXIST", Class::Claimed(Claim::Absent)), ("STATEMENTCREATING", Class::Busy)];

fn by_code(call: Call, code: &str) -> Option<Class> {
    let own = match call {
        Call::CreateOrder => CREATE_ORDER,
        Call::QueryOrder => QUERY_ORDER,
        Call::CloseOrder => CLOSE_ORDER,
        Call::CreateRefund => CREATE_REFUND,
        Call::QueryRefund | Call::Certificates => QUERY_RESOURCE,
        Call::TradeBill | Call::DownloadBill => BILL,
    };
    own.iter().chain(FOR_EVERY_CALL).find(|(known, _)| *known == code).map(|(_, class)| *class)
}
