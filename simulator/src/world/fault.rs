//! What can go wrong, word by word. `script` says where and when; this says what.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All that goes wrong with one operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fault {
    pub(crate) latency_ms: u64,
    pub(crate) lost: Option<LostAs>,
    pub(crate) instead: Option<Scripted>,
    pub(crate) errcode: Option<i64>,
    pub(crate) forgery: Option<Forgery>,
    pub(crate) callback: Option<(CallbackFault, u32)>,
    pub(crate) refund: Option<RefundFault>,
    pub(crate) state: Option<String>,
    pub(crate) bill: Option<BillFault>,
    pub(crate) damaged: bool,
    pub(crate) expire_token: bool,
    pub(crate) revoke_token: bool,
}

impl Fault {
    /// Puts the script's word where a document says how its order or refund stands.
    pub(crate) fn restate(&self, document: &mut Value) {
        let Some(word) = &self.state else { return };
        for member in ["trade_state", "status"] {
            if let Some(state) = document.get_mut(member) {
                *state = Value::from(word.as_str());
            }
        }
    }
}

/// How a script says that an answer is lost after the deed was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "serde_json::Value")]
pub(crate) enum Lost {
    /// The connection breaks without a byte.
    Dropped,
    /// An error is answered: the rule's `status`, or 500 SYSTEM_ERROR.
    Error,
}

impl TryFrom<Value> for Lost {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, &'static str> {
        match value {
            Value::Bool(true) => Ok(Self::Dropped),
            Value::String(how) if how == "dropped" => Ok(Self::Dropped),
            Value::String(how) if how == "error" => Ok(Self::Error),
            _ => Err("`answer_lost` is true, \"dropped\" or \"error\""),
        }
    }
}

/// What is answered in the place of a lost answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LostAs {
    Dropped,
    Error(Scripted),
}

/// An error of the script's choice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scripted {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) html: bool,
}

/// A signature that must not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forgery {
    /// WeChat's own probe: the signature starts with `WECHATPAY/SIGNTEST/`.
    Signtest,
    /// Right serial, signature of something else.
    WrongSignature,
    /// A serial nobody knows.
    WrongKey,
    /// A right signature, ten minutes old.
    Replayed,
}

/// What becomes of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallbackFault {
    LateMs(u64),
    AgainMs(u64),
    Twice,
    Never,
    Reordered,
    WrongAmount,
    WrongCurrency,
    WrongMchid,
    WrongAppid,
    WrongSignature,
    WrongKey,
    Signtest,
    Replayed,
}

impl CallbackFault {
    pub(super) fn forgery(self) -> Option<Forgery> {
        match self {
            Self::WrongSignature => Some(Forgery::WrongSignature),
            Self::WrongKey => Some(Forgery::WrongKey),
            Self::Signtest => Some(Forgery::Signtest),
            Self::Replayed => Some(Forgery::Replayed),
            Self::LateMs(_)
            | Self::AgainMs(_)
            | Self::Twice
            | Self::Never
            | Self::Reordered
            | Self::WrongAmount
            | Self::WrongCurrency
            | Self::WrongMchid
            | Self::WrongAppid => None,
        }
    }

    /// Tells something untrue under a right signature.
    pub(super) fn falsify(self, resource: &mut Value) {
        match self {
            Self::WrongAmount => {
                let total = resource.pointer("/amount/total").and_then(Value::as_i64).unwrap_or_default();
                resource["amount"]["total"] = Value::from(total.saturating_add(1));
            }
            Self::WrongCurrency => resource["amount"]["currency"] = Value::from("USD"),
            Self::WrongMchid => resource["mchid"] = Value::from("1900000000"),
            Self::WrongAppid => resource["appid"] = Value::from("wx0000000000000000"),
            Self::LateMs(_)
            | Self::AgainMs(_)
            | Self::Twice
            | Self::Never
            | Self::Reordered
            | Self::WrongSignature
            | Self::WrongKey
            | Self::Signtest
            | Self::Replayed => {}
        }
    }
}

/// What becomes of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RefundFault {
    Abnormal,
    Closed,
    NotEnough,
    UserAccountAbnormal,
    #[serde(rename = "slow_ms")]
    SlowMs(u64),
}

/// What becomes of one row of a day's bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BillFault {
    /// The row is left out.
    Missing,
    /// A row of an order that nobody placed follows it.
    Extra,
    /// A second payment or refund of the same order follows it, under numbers nobody knows.
    Doubled,
    /// One fen more.
    WrongAmount,
    /// A payment reads REVOKED, a refund reads FAIL.
    WrongState,
}
