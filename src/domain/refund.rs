//! The life of a refund: WeChat's word moves it, time never does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text::Line;

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
    /// A person gave the money back outside WeChat and closed the case about it. Counts as given back.
    PaidByHand,
    /// A person closed the case about it: this money is not owed. Its promise is given back.
    NotOwed,
}

impl RefundStatus {
    pub const ALL: [Self; 8] = [
        Self::Requested,
        Self::Processing,
        Self::Succeeded,
        Self::Abnormal,
        Self::Closed,
        Self::Refused,
        Self::PaidByHand,
        Self::NotOwed,
    ];

    /// Whether WeChat is still to be told or asked.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Processing)
    }

    /// Whether the money is still owed: neither given back, nor given up. Only such a refund can be ended by a person.
    pub fn is_owed(self) -> bool {
        match self {
            Self::Requested | Self::Processing | Self::Abnormal => true,
            Self::Succeeded | Self::Closed | Self::Refused | Self::PaidByHand | Self::NotOwed => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Abnormal => "abnormal",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::PaidByHand => "paid_by_hand",
            Self::NotOwed => "not_owed",
        }
    }
}

/// How a person ends a refund when they close the case about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedBy {
    /// The money was given back outside WeChat, against this receipt.
    Hand { receipt: String },
    /// The customer is not owed this money.
    NotOwed,
}

impl EndedBy {
    /// Characters of a receipt's number.
    pub const RECEIPT_MAX: usize = 64;

    /// The number of a receipt: one line of 1 to 64 characters.
    ///
    /// # Errors
    /// The text is empty, too long or has control characters.
    pub fn receipt(text: &str) -> Result<String, &'static str> {
        let line = Line::<{ Self::RECEIPT_MAX }>::try_from(text);
        line.map(String::from).map_err(|_| "must be one line of 1 to 64 characters")
    }

    /// The status that the refund ends in.
    pub fn status(&self) -> RefundStatus {
        match self {
            Self::Hand { .. } => RefundStatus::PaidByHand,
            Self::NotOwed => RefundStatus::NotOwed,
        }
    }

    /// The refund's end as the console, the CLI and problems name it.
    pub fn as_str(&self) -> &'static str {
        self.status().as_str()
    }
}

/// Who asks for a refund, as `requested_by` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester<'a> {
    /// Takes back what the session's rules allow.
    Customer(&'a str),
    /// May give back any amount, above a sum with a second person. Whoever is not named as a customer counts as one.
    Operator(&'a str),
}

impl<'a> Requester<'a> {
    pub fn of(requested_by: &'a str) -> Self {
        match requested_by.split_once(':') {
            Some(("user", user)) => Self::Customer(user),
            Some(("operator", operator)) => Self::Operator(operator),
            Some(_) | None => Self::Operator(requested_by),
        }
    }
}

/// What WeChat says of a refund. `status` in answers, `refund_status` in callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
    /// The books hold the refund as ended without WeChat, and WeChat gave the money back all the same.
    Contradicts,
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
        // A person ended it, or it was never to be asked for.
        (S::PaidByHand | S::NotOwed | S::Refused, W::Success) => RefundStep::Contradicts,
        (S::PaidByHand | S::NotOwed | S::Refused, W::Processing | W::Abnormal | W::Closed)
        | (S::Succeeded | S::Closed, W::Processing | W::Success | W::Abnormal | W::Closed) => RefundStep::AlreadyDone,
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

    #[test]
    fn s5_4_a_word_heard_twice_changes_nothing_the_second_time() {
        use RefundStanding::{Abnormal, Closed, Processing, Success};
        for status in RefundStatus::ALL {
            for word in [Processing, Success, Abnormal, Closed] {
                if let RefundStep::Move { to, .. } = step(status, word) {
                    assert_eq!(step(to, word), RefundStep::AlreadyDone, "{status:?} {word:?}");
                }
            }
        }
    }
}
