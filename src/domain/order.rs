//! The life of an order: one pure, total function from where it is and what happened to what follows.
//!
//! A status changes only through [`step`]. Workers gather the facts of an [`Event`] (asking WeChat
//! where only WeChat can know), the store carries out the [`Effect`]s in one transaction.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::notification::Kind;

/// Where an order is. Spelled the same in the database, on the wire and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In the line; no worker has taken it yet.
    Submitted,
    /// A seat is set aside; WeChat has not given a code yet.
    Held,
    /// The code can be paid.
    AwaitingPayment,
    /// Paid, and the seat is the customer's.
    Confirmed,
    /// No seat could be had. Nothing was ever asked for.
    Rejected,
    /// The hold ran out. Still payable while a seat is free.
    Lapsed,
    Cancelled,
    /// The payment deadline passed and WeChat closed the order.
    Expired,
    /// Money is on its way back.
    Refunding,
    Refunded,
}

impl Status {
    pub const ALL: [Self; 10] = [
        Self::Submitted,
        Self::Held,
        Self::AwaitingPayment,
        Self::Confirmed,
        Self::Rejected,
        Self::Lapsed,
        Self::Cancelled,
        Self::Expired,
        Self::Refunding,
        Self::Refunded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Held => "held",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Lapsed => "lapsed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
        }
    }

    /// Whether WeChat may still take money for it with our blessing.
    pub fn is_payable(self) -> bool {
        matches!(self, Self::Held | Self::AwaitingPayment | Self::Lapsed)
    }
}

/// How the customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A QR code, scanned with WeChat.
    Native,
    /// Inside WeChat.
    Jsapi,
}

impl Channel {
    pub const ALL: [Self; 2] = [Self::Native, Self::Jsapi];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Jsapi => "jsapi",
        }
    }
}

/// The seat a paying customer can be given at the moment the payment is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatAtPayment {
    /// Their hold still stands.
    Held,
    /// The hold is gone, but a seat of the session is free (their own one first).
    Free,
    None,
}

/// What is left of a payment once a refund of it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All of it went back, or all that the session's rules gave to the customer who gave the booking back.
    Nothing,
    /// Some of it is promised back and on its way.
    Promised,
    /// Some of it was not given back, and nothing more is promised.
    Kept,
}

/// What happened, with the facts that decide what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    SeatHeld,
    NoSeat,
    CodeIssued,
    /// WeChat's signed word, amounts compared.
    Paid(SeatAtPayment),
    /// WeChat took the payment when the sale of the session was over already.
    PaidTooLate,
    /// WeChat's signed word, but amount, currency, mchid or appid are not the order's.
    PaymentMismatched,
    /// The hold is over and WeChat says unpaid.
    HoldOver,
    /// The payment deadline is over and WeChat closed the order.
    DeadlineClosed,
    /// The customer cancelled and WeChat closed the order.
    CancelClosed,
    RefundRequested {
        whole: bool,
    },
    /// Money was given back.
    RefundSucceeded {
        left: Left,
    },
    /// A person ended a refund as not owed.
    RefundDropped {
        left: Left,
    },
    /// An operator gives the seat and waives the price. WeChat has closed the order.
    Granted(SeatAtPayment),
    /// An operator takes back a seat whose price was waived.
    Revoked,
    /// An operator gives back money that was set aside because it was not as ordered.
    Returned,
}

impl Event {
    pub const ALL: [Self; 24] = [
        Self::SeatHeld,
        Self::NoSeat,
        Self::CodeIssued,
        Self::Paid(SeatAtPayment::Held),
        Self::Paid(SeatAtPayment::Free),
        Self::Paid(SeatAtPayment::None),
        Self::PaidTooLate,
        Self::PaymentMismatched,
        Self::HoldOver,
        Self::DeadlineClosed,
        Self::CancelClosed,
        Self::RefundRequested { whole: true },
        Self::RefundRequested { whole: false },
        Self::RefundSucceeded { left: Left::Nothing },
        Self::RefundSucceeded { left: Left::Promised },
        Self::RefundSucceeded { left: Left::Kept },
        Self::RefundDropped { left: Left::Nothing },
        Self::RefundDropped { left: Left::Promised },
        Self::RefundDropped { left: Left::Kept },
        Self::Granted(SeatAtPayment::Held),
        Self::Granted(SeatAtPayment::Free),
        Self::Granted(SeatAtPayment::None),
        Self::Revoked,
        Self::Returned,
    ];
}

/// What the store does in the transaction of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    HoldSeat,
    FreeSeat,
    /// The temporary reservation becomes the customer's seat.
    ConfirmSeat,
    /// A fresh reservation for a customer whose hold was gone.
    TakeFreeSeat,
    IssueBooking,
    RecordTransaction,
    /// The whole sum goes back, without anybody asking.
    RefundAutomatically,
    OpenCase,
    Notify(Kind),
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Move {
        to: Status,
        effects: &'static [Effect],
    },
    /// The status stays, something is recorded all the same.
    Stay {
        effects: &'static [Effect],
    },
    /// This was done before; doing it again changes nothing.
    AlreadyDone,
    /// The event came too late or too early to matter; nothing changes.
    Irrelevant,
}

impl Step {
    /// Where an order that was `from` is after it, and what is done; `None` when nothing changes.
    pub fn change(self, from: Status) -> Option<(Status, &'static [Effect])> {
        match self {
            Self::Move { to, effects } => Some((to, effects)),
            Self::Stay { effects } => Some((from, effects)),
            Self::AlreadyDone | Self::Irrelevant => None,
        }
    }
}

/// The table of `docs/order-life.md`, as code.
pub fn step(status: Status, event: Event) -> Step {
    use Effect as E;
    use Status as S;
    match (status, event) {
        (S::Submitted, Event::SeatHeld) => to(S::Held, &[E::HoldSeat]),
        (S::Submitted, Event::NoSeat) => to(S::Rejected, &[E::Notify(Kind::BookingFailed)]),
        (
            S::Held
            | S::AwaitingPayment
            | S::Confirmed
            | S::Rejected
            | S::Lapsed
            | S::Cancelled
            | S::Expired
            | S::Refunding
            | S::Refunded,
            Event::SeatHeld | Event::NoSeat,
        ) => Step::AlreadyDone,

        (S::Held, Event::CodeIssued) => to(S::AwaitingPayment, &[]),
        (S::AwaitingPayment, Event::CodeIssued) => Step::AlreadyDone,
        (
            S::Submitted
            | S::Confirmed
            | S::Rejected
            | S::Lapsed
            | S::Cancelled
            | S::Expired
            | S::Refunding
            | S::Refunded,
            Event::CodeIssued,
        ) => Step::Irrelevant,

        (S::Held | S::AwaitingPayment, Event::Paid(SeatAtPayment::Held)) => to(
            S::Confirmed,
            &[E::RecordTransaction, E::ConfirmSeat, E::IssueBooking, E::Notify(Kind::BookingConfirmed)],
        ),
        (
            S::Held | S::AwaitingPayment | S::Lapsed | S::Expired,
            Event::Paid(SeatAtPayment::Held | SeatAtPayment::Free),
        ) => to(
            S::Confirmed,
            &[E::RecordTransaction, E::TakeFreeSeat, E::IssueBooking, E::Notify(Kind::BookingConfirmed)],
        ),
        (S::Held | S::AwaitingPayment | S::Lapsed | S::Expired, Event::Paid(SeatAtPayment::None))
        | (S::Cancelled, Event::Paid(_)) => {
            to(S::Refunding, &[E::RecordTransaction, E::RefundAutomatically, E::Notify(Kind::PaymentReceived)])
        }
        (S::Held | S::AwaitingPayment, Event::PaidTooLate) => to(
            S::Refunding,
            &[E::RecordTransaction, E::FreeSeat, E::RefundAutomatically, E::Notify(Kind::PaymentReceived)],
        ),
        (S::Lapsed | S::Expired | S::Cancelled, Event::PaidTooLate) => {
            to(S::Refunding, &[E::RecordTransaction, E::RefundAutomatically, E::Notify(Kind::PaymentReceived)])
        }
        (S::Confirmed | S::Refunding | S::Refunded, Event::Paid(_) | Event::PaidTooLate) => Step::AlreadyDone,
        // No code was ever given for these, so WeChat cannot have taken money: a person must look.
        (S::Submitted | S::Rejected, Event::Paid(_) | Event::PaidTooLate) => {
            Step::Stay { effects: &[E::RecordTransaction, E::OpenCase] }
        }
        (_, Event::PaymentMismatched) => Step::Stay { effects: &[E::RecordTransaction, E::OpenCase] },

        (S::Held | S::AwaitingPayment, Event::HoldOver) => to(S::Lapsed, &[E::FreeSeat, E::Notify(Kind::HoldLapsed)]),
        (S::Lapsed, Event::HoldOver) => Step::AlreadyDone,
        (
            S::Submitted | S::Confirmed | S::Rejected | S::Cancelled | S::Expired | S::Refunding | S::Refunded,
            Event::HoldOver,
        ) => Step::Irrelevant,

        (S::Held | S::AwaitingPayment, Event::DeadlineClosed) => {
            to(S::Expired, &[E::FreeSeat, E::Notify(Kind::OrderExpired)])
        }
        (S::Lapsed, Event::DeadlineClosed) => to(S::Expired, &[E::Notify(Kind::OrderExpired)]),
        (S::Expired, Event::DeadlineClosed) => Step::AlreadyDone,
        (
            S::Submitted | S::Confirmed | S::Rejected | S::Cancelled | S::Refunding | S::Refunded,
            Event::DeadlineClosed,
        ) => Step::Irrelevant,

        (S::Held | S::AwaitingPayment, Event::CancelClosed) => to(S::Cancelled, &[E::FreeSeat]),
        (S::Lapsed, Event::CancelClosed) => to(S::Cancelled, &[]),
        (S::Cancelled, Event::CancelClosed) => Step::AlreadyDone,
        (S::Submitted | S::Confirmed | S::Rejected | S::Expired | S::Refunding | S::Refunded, Event::CancelClosed) => {
            Step::Irrelevant
        }

        (S::Confirmed, Event::RefundRequested { whole: true }) => to(S::Refunding, &[E::FreeSeat]),
        // It ended with money that was not owed; a person found that it is. The seat is gone already.
        (S::Cancelled, Event::RefundRequested { whole: true }) => to(S::Refunding, &[]),
        (S::Confirmed | S::Cancelled, Event::RefundRequested { whole: false }) => Step::Stay { effects: &[] },
        // The customer took back less than all; an operator gives more. The seat is gone already.
        (S::Refunding, Event::RefundRequested { .. }) => Step::Stay { effects: &[] },
        (S::Refunded, Event::RefundRequested { .. }) => to(S::Refunding, &[]),
        (
            S::Submitted | S::Held | S::AwaitingPayment | S::Rejected | S::Lapsed | S::Expired,
            Event::RefundRequested { .. },
        ) => Step::Irrelevant,

        (S::Refunding, Event::RefundSucceeded { left: Left::Nothing }) => to(S::Refunded, &[E::Notify(Kind::Refunded)]),
        // Staff gave all of it back at WeChat: who has their money back has no seat.
        (S::Confirmed, Event::RefundSucceeded { left: Left::Nothing }) => {
            to(S::Refunded, &[E::FreeSeat, E::Notify(Kind::Refunded)])
        }
        (S::Cancelled, Event::RefundSucceeded { left: Left::Nothing }) => to(S::Refunded, &[E::Notify(Kind::Refunded)]),
        // What is kept was not owed: the order ends without a seat and without a promise.
        (S::Refunding, Event::RefundSucceeded { left: Left::Kept }) => to(S::Cancelled, &[E::Notify(Kind::Refunded)]),
        (S::Confirmed | S::Refunding | S::Cancelled, Event::RefundSucceeded { .. }) => {
            Step::Stay { effects: &[E::Notify(Kind::Refunded)] }
        }
        (S::Refunded, Event::RefundSucceeded { .. }) => Step::AlreadyDone,
        (
            S::Submitted | S::Held | S::AwaitingPayment | S::Rejected | S::Lapsed | S::Expired,
            Event::RefundSucceeded { .. },
        ) => Step::Irrelevant,

        (S::Refunding, Event::RefundDropped { left: Left::Kept }) => to(S::Cancelled, &[]),
        // What the customer took back by the session's rules has gone back; more is not owed.
        (S::Refunding, Event::RefundDropped { left: Left::Nothing }) => to(S::Refunded, &[]),
        (S::Confirmed | S::Refunding | S::Cancelled, Event::RefundDropped { .. }) => Step::Stay { effects: &[] },
        (
            S::Submitted | S::Held | S::AwaitingPayment | S::Rejected | S::Lapsed | S::Expired | S::Refunded,
            Event::RefundDropped { .. },
        ) => Step::Irrelevant,

        (S::Held | S::AwaitingPayment, Event::Granted(SeatAtPayment::Held)) => {
            to(S::Confirmed, &[E::ConfirmSeat, E::IssueBooking, E::Notify(Kind::BookingConfirmed)])
        }
        (
            S::Held | S::AwaitingPayment | S::Lapsed | S::Expired | S::Cancelled,
            Event::Granted(SeatAtPayment::Held | SeatAtPayment::Free),
        ) => to(S::Confirmed, &[E::TakeFreeSeat, E::IssueBooking, E::Notify(Kind::BookingConfirmed)]),
        (S::Confirmed, Event::Granted(_)) => Step::AlreadyDone,
        // Without a seat there is nothing to give, and no money that would have to go anywhere.
        (
            S::Submitted
            | S::Held
            | S::AwaitingPayment
            | S::Rejected
            | S::Lapsed
            | S::Expired
            | S::Cancelled
            | S::Refunding
            | S::Refunded,
            Event::Granted(_),
        ) => Step::Irrelevant,

        (S::Confirmed, Event::Revoked) => to(S::Cancelled, &[E::FreeSeat]),
        (S::Cancelled, Event::Revoked) => Step::AlreadyDone,
        (
            S::Submitted
            | S::Held
            | S::AwaitingPayment
            | S::Rejected
            | S::Lapsed
            | S::Expired
            | S::Refunding
            | S::Refunded,
            Event::Revoked,
        ) => Step::Irrelevant,

        (S::Held | S::AwaitingPayment, Event::Returned) => {
            to(S::Refunding, &[E::FreeSeat, E::RefundAutomatically, E::Notify(Kind::PaymentReceived)])
        }
        (S::Lapsed | S::Expired | S::Cancelled, Event::Returned) => {
            to(S::Refunding, &[E::RefundAutomatically, E::Notify(Kind::PaymentReceived)])
        }
        (S::Refunding | S::Refunded, Event::Returned) => Step::AlreadyDone,
        (S::Submitted | S::Rejected | S::Confirmed, Event::Returned) => Step::Irrelevant,
    }
}

/// Whether any event leads from one status to the other; from a status to itself, whether any is recorded there.
pub fn leads(from: Status, to: Status) -> bool {
    Event::ALL.into_iter().any(|event| step(from, event).change(from).is_some_and(|(reached, _)| reached == to))
}

fn to(to: Status, effects: &'static [Effect]) -> Step {
    Step::Move { to, effects }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Event> {
        prop::sample::select(&Event::ALL[..])
    }

    proptest! {
        #[test]
        fn s3_3_a_recorded_payment_is_a_seat_a_refund_or_a_case(status in prop::sample::select(&Status::ALL[..]), event in events()) {
            if let Step::Move { effects, .. } | Step::Stay { effects } = step(status, event)
                && effects.contains(&Effect::RecordTransaction)
            {
                let settled = effects.iter().filter(|e| matches!(e, Effect::IssueBooking | Effect::RefundAutomatically | Effect::OpenCase)).count();
                prop_assert_eq!(settled, 1);
            }
        }

        #[test]
        fn no_sequence_takes_two_seats_or_leaves_a_final_state(events in prop::collection::vec(events(), 1..40)) {
            let mut status = Status::Submitted;
            let mut seats = 0i32;
            for event in events {
                // The store finds the seat: the order's own when it has one, else a free one or none.
                if let Event::Paid(seat) | Event::Granted(seat) = event
                    && (seat == SeatAtPayment::Held) != (seats == 1)
                {
                    continue;
                }
                if let Step::Move { to, effects } = step(status, event) {
                    // A part that was kept can still be given back; nothing else leaves a refunded order.
                    prop_assert!(status != Status::Rejected);
                    prop_assert!(status != Status::Refunded || to == Status::Refunding);
                    for effect in effects {
                        match effect {
                            Effect::HoldSeat | Effect::TakeFreeSeat => seats += 1,
                            Effect::FreeSeat => seats -= 1,
                            _ => {}
                        }
                    }
                    status = to;
                }
                prop_assert!((0..=1).contains(&seats), "{status:?} has {seats} seats");
            }
        }
    }

    #[test]
    fn an_event_seen_twice_changes_nothing_the_second_time() {
        for status in Status::ALL {
            for event in [
                Event::SeatHeld,
                Event::CodeIssued,
                Event::Paid(SeatAtPayment::Held),
                Event::HoldOver,
                Event::DeadlineClosed,
                Event::CancelClosed,
            ] {
                if let Step::Move { to, .. } = step(status, event) {
                    assert_eq!(step(to, event), Step::AlreadyDone, "{status:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn the_table_gives_and_takes_one_seat_and_money_only_where_money_was() {
        let seated = |status| matches!(status, Status::Held | Status::AwaitingPayment | Status::Confirmed);
        for (status, event) in Status::ALL.into_iter().flat_map(|s| Event::ALL.map(|e| (s, e))) {
            let Some((to, effects)) = step(status, event).change(status) else { continue };
            let has = |effect| effects.contains(&effect);
            assert!(!has(Effect::FreeSeat) || (seated(status) && !seated(to)), "{status:?} {event:?}");
            assert!(!has(Effect::HoldSeat) || (!seated(status) && seated(to)), "{status:?} {event:?}");
            assert_eq!(has(Effect::IssueBooking), to == Status::Confirmed && to != status, "{status:?} {event:?}");
            assert!(!has(Effect::RefundAutomatically) || to == Status::Refunding, "{status:?} {event:?}");
            let was_paid =
                matches!(status, Status::Confirmed | Status::Refunding | Status::Refunded | Status::Cancelled);
            let is_refund = matches!(event, Event::RefundRequested { .. } | Event::RefundSucceeded { .. });
            assert!(!is_refund || was_paid, "{status:?} {event:?}");
        }
    }
}
