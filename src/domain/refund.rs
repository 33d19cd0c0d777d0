//! The life of a refund: WeChat's word moves it, time never does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a refund is, in our books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Decided; WeChat may or may not have heard of it.
    Requested,
    /// WeChat accepted it.
    Processing,
    Succeeded,
    /// The payer's account cannot take it: the money is still owed, a person must act.
    Abnormal,
    /// WeChat dropped it. Another number follows; this one is over.
    Closed,
    /// It could not be met: nothing left, more than is left, or not paid. WeChat never heard of it.
    Refused,
}

impl RefundStatus {
    pub const ALL: [Self; 6] =
        [Self::Requested, Self::Processing, Self::Succeeded, Self::Abnormal, Self::Closed, Self::Refused];

    /// Whether WeChat is still to be told or asked.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Processing)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Abnormal => "abnormal",
            Self::Closed => "closed",
            Self::Refused => "refused",
        }
    }
}

/// What WeChat says of a refund. `status` in answers, `refund_status` in callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStanding {
    Processing,
    Success,
    Abnormal,
    Closed,
}

impl RefundStanding {
    pub const ALL: [Self; 4] = [Self::Processing, Self::Success, Self::Abnormal, Self::Closed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Abnormal => "abnormal",
            Self::Closed => "closed",
        }
    }
}

/// What follows from WeChat's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStep {
    Move {
        to: RefundStatus,
        effect: RefundEffect,
    },
    /// Known before, or older than what is known.
    AlreadyDone,
}

/// What the store does in the transaction of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundEffect {
    Nothing,
    /// The sum counts as given back; the customer is told.
    Settle,
    OpenCase,
    /// A new refund, with a new number, for the same sum.
    Replace,
}

/// WeChat's word moves a refund forward, never back: an older answer that arrives late changes nothing.
/// An abnormal refund can still succeed, once somebody has mended the payer's account at WeChat.
pub fn step(status: RefundStatus, standing: RefundStanding) -> RefundStep {
    use RefundStanding as W;
    use RefundStatus as S;
    match (status, standing) {
        (S::Requested, W::Processing) => to(S::Processing, RefundEffect::Nothing),
        (S::Requested | S::Processing | S::Abnormal, W::Success) => to(S::Succeeded, RefundEffect::Settle),
        (S::Requested | S::Processing, W::Abnormal) => to(S::Abnormal, RefundEffect::OpenCase),
        (S::Requested | S::Processing | S::Abnormal, W::Closed) => to(S::Closed, RefundEffect::Replace),
        (S::Processing | S::Abnormal, W::Processing) | (S::Abnormal, W::Abnormal) => RefundStep::AlreadyDone,
        (S::Succeeded | S::Closed | S::Refused, W::Processing | W::Success | W::Abnormal | W::Closed) => {
            RefundStep::AlreadyDone
        }
    }
}

fn to(to: RefundStatus, effect: RefundEffect) -> RefundStep {
    RefundStep::Move { to, effect }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standings() -> impl Strategy<Value = RefundStanding> {
        prop::sample::select(&RefundStanding::ALL[..])
    }

    proptest! {
        #[test]
        fn s5_4_whatever_wechat_says_a_refund_settles_or_is_replaced_at_most_once(words in prop::collection::vec(standings(), 0..20)) {
            let mut status = RefundStatus::Requested;
            let mut ends = 0;
            for word in words {
                if let RefundStep::Move { to, effect } = step(status, word) {
                    if matches!(effect, RefundEffect::Settle | RefundEffect::Replace) { ends += 1; }
                    status = to;
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
