//! Overrides: an operator's decision about one order, what it needs, and whether it can be taken back.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    ids::{IdempotencyKey, OrderId, RefundId, wish_id},
    money::Fen,
    order::Status,
};

/// In front of the `transaction_id` of an order whose price was waived: nobody took money for it.
pub const WAIVED: &str = "waived-";

/// What an operator decides. Whatever concerns WeChat is done by asking WeChat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverrideAction {
    /// WeChat is asked whether it was paid, whatever became of the order; its signed word settles.
    Confirm,
    /// The seat is given for nothing. WeChat closes the order first.
    Waive,
    /// The held seat goes to others now, the order can still be paid; or a waived seat is taken back.
    Release,
    /// Money goes back: of a booking, or what was set aside because it was not as ordered.
    Refund,
    /// The customer paid in another way. WeChat closes the order first.
    RecordPayment,
    /// The order is given up. WeChat closes it first.
    Close,
}

impl OverrideAction {
    pub const ALL: [Self; 6] =
        [Self::Confirm, Self::Waive, Self::Release, Self::Refund, Self::RecordPayment, Self::Close];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Waive => "waive",
            Self::Release => "release",
            Self::Refund => "refund",
            Self::RecordPayment => "record_payment",
            Self::Close => "close",
        }
    }

    /// Whether money, or what stands for it, changes hands: such decisions count together for an order. The others ask
    /// WeChat, or end what nobody has paid for.
    pub fn moves_money(self) -> bool {
        match self {
            Self::Waive | Self::Refund | Self::RecordPayment => true,
            Self::Confirm | Self::Release | Self::Close => false,
        }
    }

    /// How it is taken back once it is done.
    pub fn undo(self) -> &'static str {
        match self {
            Self::Confirm => "override `refund`: the money goes back and the seat is free",
            Self::Waive => "override `release`: the seat is free again; no money is concerned",
            Self::Release => {
                "nothing is lost: the customer can pay while a seat is free, and `waive` or `record_payment` seats them again"
            }
            Self::Refund => "cannot be taken back: money that WeChat returned must be paid anew, with a new order",
            Self::RecordPayment => "override `refund`: a case asks a person to hand the money back",
            Self::Close => "not at WeChat: the customer orders again; `waive` revives this order while a seat is free",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverrideStatus {
    /// Waits for a second operator.
    Proposed,
    /// With the worker.
    Approved,
    Done,
    /// It could not be done; `outcome` says why. Nothing was changed.
    Refused,
    /// Taken back, or declined by the second operator.
    Withdrawn,
}

impl OverrideStatus {
    pub const ALL: [Self; 5] = [Self::Proposed, Self::Approved, Self::Done, Self::Refused, Self::Withdrawn];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// An override, from the proposal to what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverrideDocument {
    #[schema(value_type = String, format = "uuid")]
    pub override_id: Uuid,
    #[schema(value_type = String)]
    pub order_id: OrderId,
    pub action: OverrideAction,
    /// Of a refund (null: all that is left) or a recorded payment.
    #[schema(value_type = Option<i64>)]
    pub amount_fen: Option<Fen>,
    pub receipt: Option<String>,
    pub reason: String,
    /// What the decision is about. Above the configured sum it waits for a second operator.
    #[schema(value_type = i64, example = 20000)]
    pub money_fen: Fen,
    pub status: OverrideStatus,
    pub proposed_by: String,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub proposed_at: OffsetDateTime,
    /// Who agreed, or withdrew it; null when one person was enough.
    pub decided_by: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<OffsetDateTime>,
    /// What came of it, in words.
    pub outcome: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<OffsetDateTime>,
    /// How to take it back.
    pub undo: String,
}

/// What an operator wants, before it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub override_id: Uuid,
    pub order_id: OrderId,
    pub action: OverrideAction,
    pub amount_fen: Option<Fen>,
    pub receipt: Option<String>,
    pub reason: String,
    pub operator: String,
    pub request_id: String,
}

impl Proposal {
    /// Whether the books hold this very wish.
    pub fn is(&self, document: &OverrideDocument) -> bool {
        self.order_id == document.order_id
            && self.action == document.action
            && self.amount_fen == document.amount_fen
            && self.receipt == document.receipt
            && self.reason == document.reason
    }
}

/// A receipt's number, as it becomes part of a transaction's.
pub fn receipt(text: &str) -> Result<String, &'static str> {
    let fits = (1..=24).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 24 of a-z, 0-9 and -") }
}

/// The override that this operator means by this key.
pub fn override_id(operator: &str, key: &IdempotencyKey) -> Uuid {
    wish_id(operator, key)
}

/// The override that a request for a refund becomes which one operator may not decide alone. No operator's own key can
/// name it: operators' names have no control characters.
pub fn override_of_refund(refund: &RefundId) -> Uuid {
    let key = IdempotencyKey::try_from(refund.as_str()).expect("a refund's number is digits, letters and dashes");
    wish_id("\u{1}refund", &key)
}

/// What decides whether an override makes sense.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub status: Status,
    pub price_fen: Fen,
    pub paid_fen: Fen,
    /// Paid and not promised back.
    pub left_fen: Fen,
    /// Money that is not as ordered, with an open case.
    pub set_aside_fen: Fen,
    pub is_waived: bool,
}

/// The money that the decision is about; or why it cannot be made now. The worker judges again when it acts.
pub fn judge(action: OverrideAction, amount: Option<Fen>, at: Standing) -> Result<Fen, &'static str> {
    use OverrideAction as A;
    use Status as S;
    match (action, at.status) {
        (A::Confirm | A::Waive | A::RecordPayment, S::Confirmed) => Err("the order is confirmed already"),
        (A::Confirm | A::Waive | A::RecordPayment, S::Refunding | S::Refunded) => {
            Err("its money is on its way back, and WeChat's refunds cannot be recalled: the customer orders again")
        }
        (A::Confirm | A::Waive | A::RecordPayment, S::Rejected) => {
            Err("it was rejected and has no order at WeChat: the customer orders again")
        }
        (A::Waive, S::Cancelled) if at.is_waived => {
            Err("its seat was given for nothing and taken back once: the customer orders again")
        }
        (A::Confirm | A::Waive, S::Held | S::AwaitingPayment | S::Lapsed | S::Expired | S::Cancelled) => {
            Ok(at.price_fen)
        }
        (A::RecordPayment, S::Held | S::AwaitingPayment | S::Lapsed | S::Expired)
            if amount.is_none_or(|sum| sum == at.price_fen) =>
        {
            Ok(at.price_fen)
        }
        (A::RecordPayment, S::Held | S::AwaitingPayment | S::Lapsed | S::Expired) => {
            Err("the sum must be the order's whole price")
        }
        (A::RecordPayment, S::Cancelled) => Err("the customer cancelled it: they order again"),

        (A::Release, S::Held | S::AwaitingPayment) => Ok(at.price_fen),
        (A::Release, S::Confirmed) if at.is_waived => Ok(at.price_fen),
        (A::Release, S::Confirmed) => Err("it is paid: a refund frees the seat"),
        (A::Release, S::Lapsed | S::Expired | S::Cancelled | S::Rejected | S::Refunding | S::Refunded) => {
            Err("it has no seat")
        }

        (A::Close, S::Held | S::AwaitingPayment | S::Lapsed) => Ok(at.price_fen),
        (A::Close, S::Confirmed) => Err("it is paid: a refund ends it"),
        (A::Close, S::Rejected | S::Cancelled | S::Expired | S::Refunding | S::Refunded) => Err("it has ended already"),

        // Of an order that is over something is left when its customer took back less than all.
        (A::Refund, S::Confirmed | S::Refunding | S::Refunded) => {
            let sum = amount.unwrap_or(at.left_fen);
            if at.left_fen == Fen::ZERO {
                Err("nothing is left to give back")
            } else if sum <= Fen::ZERO || sum > at.left_fen {
                Err("that is more than is left")
            } else {
                Ok(sum)
            }
        }
        // A refund of it was ended as not owed, and a person found that it is.
        (A::Refund, S::Cancelled) if at.set_aside_fen == Fen::ZERO && at.left_fen > Fen::ZERO => {
            Some(amount.unwrap_or(at.left_fen))
                .filter(|sum| *sum > Fen::ZERO && *sum <= at.left_fen)
                .ok_or("that is more than is left")
        }
        (A::Refund, S::Held | S::AwaitingPayment | S::Lapsed | S::Expired | S::Cancelled) => {
            if at.set_aside_fen == Fen::ZERO {
                Err("it is not paid")
            } else if amount.is_some_and(|sum| sum != at.set_aside_fen) {
                Err("what was set aside goes back as a whole")
            } else {
                Ok(at.set_aside_fen)
            }
        }
        (A::Refund, S::Rejected) => Err("it is not paid"),

        (_, S::Submitted) => Err("no worker has taken the order yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::order::{Event, Step, step};

    fn at(status: Status) -> Standing {
        Standing {
            status,
            price_fen: Fen(200),
            paid_fen: Fen(200),
            left_fen: Fen(150),
            set_aside_fen: Fen::ZERO,
            is_waived: false,
        }
    }

    #[test]
    fn s4_2_no_override_gives_back_more_than_was_taken() {
        for status in Status::ALL {
            for amount in [None, Some(Fen(1)), Some(Fen(150)), Some(Fen(151)), Some(Fen(0)), Some(Fen(-1))] {
                if let Ok(sum) = judge(OverrideAction::Refund, amount, at(status)) {
                    let is_paid =
                        matches!(status, Status::Confirmed | Status::Refunding | Status::Refunded | Status::Cancelled);
                    assert!(is_paid && sum > Fen::ZERO && sum <= Fen(150), "{status:?} {amount:?}");
                }
            }
        }
    }

    #[test]
    fn s4_2_what_has_ended_with_money_on_its_way_back_is_not_revived() {
        for action in [OverrideAction::Confirm, OverrideAction::Waive, OverrideAction::RecordPayment] {
            for status in [Status::Refunding, Status::Refunded, Status::Rejected, Status::Confirmed] {
                assert!(judge(action, Some(Fen(200)), at(status)).is_err(), "{action:?} {status:?}");
            }
        }
    }

    #[test]
    fn s4_2_what_can_be_decided_about_an_order_follows_from_its_status() {
        use OverrideAction as A;
        use Status as S;
        for (status, possible) in [
            (S::Submitted, &[][..]),
            (S::Held, &[A::Confirm, A::Waive, A::Release, A::RecordPayment, A::Close]),
            (S::AwaitingPayment, &[A::Confirm, A::Waive, A::Release, A::RecordPayment, A::Close]),
            (S::Confirmed, &[A::Refund]),
            (S::Rejected, &[]),
            (S::Lapsed, &[A::Confirm, A::Waive, A::RecordPayment, A::Close]),
            (S::Cancelled, &[A::Confirm, A::Waive, A::Refund]),
            (S::Expired, &[A::Confirm, A::Waive, A::RecordPayment]),
            (S::Refunding, &[A::Refund]),
            (S::Refunded, &[A::Refund]),
        ] {
            let found: Vec<A> = A::ALL.into_iter().filter(|action| judge(*action, None, at(status)).is_ok()).collect();
            assert_eq!(found, possible, "{status:?}");
        }
        assert_eq!(
            judge(A::RecordPayment, Some(Fen(199)), at(S::Held)),
            Err("the sum must be the order's whole price")
        );
    }

    #[test]
    fn s4_2_money_that_was_set_aside_goes_back_as_a_whole() {
        for status in [Status::Held, Status::AwaitingPayment, Status::Lapsed, Status::Expired, Status::Cancelled] {
            let aside = Standing { paid_fen: Fen::ZERO, left_fen: Fen::ZERO, set_aside_fen: Fen(201), ..at(status) };
            for amount in [None, Some(Fen(201))] {
                assert_eq!(judge(OverrideAction::Refund, amount, aside), Ok(Fen(201)), "{status:?}");
            }
            assert!(judge(OverrideAction::Refund, Some(Fen(200)), aside).is_err(), "{status:?}");
            // So the worker, once it has judged, need not ask whether the order took the step.
            assert!(matches!(step(status, Event::Returned), Step::Move { to: Status::Refunding, .. }), "{status:?}");
        }
    }

    #[test]
    fn the_same_wish_is_the_same_override() {
        let key = |text| IdempotencyKey::try_from(text).expect("a key");
        assert_eq!(override_id("olga", &key("a")), override_id("olga", &key("a")));
        assert_ne!(override_id("olga", &key("a")), override_id("otto", &key("a")));
    }
}
