//! What an order waits for, what happens by itself, and what would have to happen for each other ending: read off the
//! tables of [`order::step`] and [`refund::step`], so that no explanation says what the code does not do.

use std::collections::{HashSet, VecDeque};

use time::OffsetDateTime;

use super::{
    ids::RefundId,
    money::Fen,
    notification::Kind,
    order::{Event, Left, SeatAtPayment, Status, Step, step},
    order_diagram::words,
    refund::{self, RefundEffect, RefundStanding, RefundStatus, RefundStep},
    timeline::{Ending, Money, Next, Waiting},
};

/// How an order can end.
const ENDINGS: [Status; 5] =
    [Status::Confirmed, Status::Rejected, Status::Cancelled, Status::Expired, Status::Refunded];

/// What the tables need to know of an order.
#[derive(Debug, Clone)]
pub struct Facts {
    pub status: Status,
    pub now: OffsetDateTime,
    pub hold_expires_at: Option<OffsetDateTime>,
    pub pay_before: Option<OffsetDateTime>,
    /// A reservation holds a seat for it.
    pub holds_seat: bool,
    /// Its session has a free seat and still takes orders.
    pub seat_is_free: bool,
    pub seat_no: Option<i32>,
    pub reason: Option<String>,
    pub is_waived: bool,
    pub money: Money,
    pub refunds: Vec<RefundFact>,
    /// Messages to the customer that are not sent yet.
    pub pending: Vec<Kind>,
    /// Kind and money of each open case.
    pub open_cases: Vec<(String, Fen)>,
    /// Decisions that wait for a second operator, by action.
    pub proposed: Vec<String>,
    /// Messages about it that were set aside and not handled since, by type.
    pub parked: Vec<String>,
}

impl Facts {
    /// Of an order that no worker has taken.
    pub fn of_submitted(now: OffsetDateTime, money: Money, parked: Vec<String>) -> Self {
        Self {
            status: Status::Submitted,
            now,
            hold_expires_at: None,
            pay_before: None,
            holds_seat: false,
            seat_is_free: false,
            seat_no: None,
            reason: None,
            is_waived: false,
            money,
            refunds: Vec::new(),
            pending: Vec::new(),
            open_cases: Vec::new(),
            proposed: Vec::new(),
            parked,
        }
    }
}

/// A refund of the order.
#[derive(Debug, Clone)]
pub struct RefundFact {
    pub refund_id: RefundId,
    pub status: RefundStatus,
    pub amount_fen: Fen,
    pub next_check_at: Option<OffsetDateTime>,
    /// Why WeChat has not done it yet.
    pub error: Option<String>,
    /// An open case asks a person about it: it is not sent to WeChat.
    pub asks_person: bool,
}

impl RefundFact {
    /// Whether WeChat's word about it is awaited.
    fn is_with_wechat(&self) -> bool {
        match self.status {
            RefundStatus::Requested => !self.asks_person,
            RefundStatus::Processing => true,
            RefundStatus::Succeeded
            | RefundStatus::Abnormal
            | RefundStatus::Closed
            | RefundStatus::Refused
            | RefundStatus::PaidByHand
            | RefundStatus::NotOwed => false,
        }
    }
}

/// Who brings an event about. `None`: an operator, or nobody of whom it is expected.
fn owed_by(event: Event) -> Option<&'static str> {
    match event {
        Event::SeatHeld | Event::NoSeat => Some("worker"),
        Event::CodeIssued | Event::RefundSucceeded { left: Left::Nothing } => Some("wechat"),
        Event::Paid(_) => Some("customer"),
        // A deadline comes by itself; the rest are wishes that nobody owes.
        Event::HoldOver
        | Event::DeadlineClosed
        | Event::PaidTooLate
        | Event::PaymentMismatched
        | Event::CancelClosed
        | Event::RefundRequested { .. }
        | Event::RefundSucceeded { left: Left::Promised | Left::Kept }
        | Event::RefundDropped { .. }
        | Event::Granted(_)
        | Event::Revoked
        | Event::Returned => None,
    }
}

/// Whether the event can be the next one, as far as the facts tell; a later one, with seats that may have changed.
fn can_be_next(event: Event, from: Status, facts: &Facts, is_later: bool) -> bool {
    match event {
        Event::Paid(seat) | Event::Granted(seat) => {
            is_later
                || seat
                    == match (facts.holds_seat, facts.seat_is_free) {
                        (true, _) => SeatAtPayment::Held,
                        (false, true) => SeatAtPayment::Free,
                        (false, false) => SeatAtPayment::None,
                    }
        }
        Event::Returned => facts.money.set_aside_fen > Fen::ZERO,
        Event::Revoked => facts.is_waived,
        // These have money left only when a refund was ended as not owed, or the session's rules kept a part.
        Event::RefundRequested { .. } if matches!(from, Status::Cancelled | Status::Refunding | Status::Refunded) => {
            !is_later && facts.money.promised_back_fen < facts.money.paid_fen
        }
        Event::RefundRequested { .. } => !facts.is_waived,
        // WeChat is told the deadline, so nobody waits for it; it ends as a payment without a free seat does.
        Event::PaidTooLate => false,
        // Of a part: nothing ends by it.
        Event::RefundSucceeded { left } => left == Left::Nothing && from == Status::Refunding,
        // Only about a refund that is owed, by the case about it.
        Event::RefundDropped { left } => {
            left == Left::Kept && facts.refunds.iter().any(|refund| refund.status.is_owed())
        }
        Event::SeatHeld
        | Event::NoSeat
        | Event::CodeIssued
        | Event::PaymentMismatched
        | Event::HoldOver
        | Event::DeadlineClosed
        | Event::CancelClosed => true,
    }
}

/// What must happen before the order goes on.
pub fn waits_for(facts: &Facts) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    let mut wait = |whom: &str, what: String| waiting.push(Waiting { whom: whom.to_owned(), what });
    for event in Event::ALL {
        let is_payment = matches!(event, Event::Paid(_));
        if let (Some(whom), Step::Move { .. }) = (owed_by(event), step(facts.status, event))
            && can_be_next(event, facts.status, facts, false)
            // After WeChat closed it nobody expects money; should it come, the table knows what follows.
            && (!is_payment || facts.status.is_payable())
        {
            wait(whom, words(event).to_owned());
        }
    }
    for refund in facts.refunds.iter().filter(|refund| refund.is_with_wechat()) {
        let why = refund.error.as_ref().map(|error| format!(" (so far: {error})")).unwrap_or_default();
        wait("wechat", format!("its word about refund {} of {}{why}", refund.refund_id, refund.amount_fen));
    }
    for kind in &facts.pending {
        wait("worker", format!("message `{}` to the customer", kind.as_str()));
    }
    for kind in &facts.parked {
        wait("operator", format!("`{kind}` was set aside: replay or discard it"));
    }
    for (kind, money) in &facts.open_cases {
        wait("operator", format!("case `{kind}` about {money}"));
    }
    for action in &facts.proposed {
        wait("operator", format!("a second operator's word on override `{action}`"));
    }
    waiting
}

/// What happens by itself, soonest first. A deadline is judged by the table from where the one before it leads.
pub fn next(facts: &Facts) -> Vec<Next> {
    let mut next = Vec::new();
    let mut status = facts.status;
    let deadlines = [(facts.hold_expires_at, Event::HoldOver), (facts.pay_before, Event::DeadlineClosed)];
    for (at, event) in deadlines {
        if let (Some(at), Step::Move { to, .. }) = (at, step(status, event)) {
            next.push(Next { at: at.max(facts.now), what: words(event).to_owned(), to: Some(to) });
            status = to;
        }
    }
    for refund in &facts.refunds {
        if let Some(at) = refund.next_check_at.filter(|_| refund.is_with_wechat()) {
            let what = format!("WeChat is asked about refund {}: {}", refund.refund_id, answers(refund.status));
            next.push(Next { at: at.max(facts.now), what, to: None });
        }
    }
    next.sort_by_key(|next| next.at);
    next
}

/// What each word of WeChat about a refund leads to.
fn answers(status: RefundStatus) -> String {
    let led_to = RefundStanding::ALL.into_iter().filter_map(|standing| match refund::step(status, standing) {
        RefundStep::Move { to, effect } => {
            let effect = match effect {
                RefundEffect::Nothing | RefundEffect::Settle => "",
                RefundEffect::OpenCase => " and a case",
                RefundEffect::Replace => " and a new number",
            };
            Some(format!("{} → {}{effect}", standing.as_str(), to.as_str()))
        }
        RefundStep::Contradicts | RefundStep::AlreadyDone => None,
    });
    led_to.collect::<Vec<_>>().join(", ")
}

/// The shortest way to each other ending.
pub fn endings(facts: &Facts) -> Vec<Ending> {
    let others = ENDINGS.into_iter().filter(|ending| *ending != facts.status);
    others.map(|status| Ending { status, through: way(facts, status) }).collect()
}

/// Breadth first through the table, along events that fit the facts.
fn way(facts: &Facts, ending: Status) -> Option<Vec<String>> {
    let mut seen = HashSet::from([facts.status]);
    let mut line = VecDeque::from([(facts.status, Vec::new())]);
    while let Some((status, path)) = line.pop_front() {
        if status == ending {
            return Some(path);
        }
        for event in Event::ALL {
            if let Step::Move { to, .. } = step(status, event)
                && can_be_next(event, status, facts, !path.is_empty())
                && seen.insert(to)
            {
                let mut longer = path.clone();
                longer.push(words(event).to_owned());
                line.push_back((to, longer));
            }
        }
    }
    None
}

/// Why the order is as it is, for whoever has to tell the customer.
pub fn answer(facts: &Facts) -> String {
    let Money { price_fen, paid_fen, refunded_fen, set_aside_fen, promised_back_fen } = facts.money;
    let seat = facts.seat_no.map_or_else(|| "a seat".to_owned(), |seat| format!("seat {seat}"));
    let why = facts.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    // A reason at an order with money says why it got no seat.
    let came_too_late = match &facts.reason {
        Some(reason) => format!("Paid {paid_fen} when no seat could be had any more ({reason})."),
        None => format!("Paid {paid_fen}; the seat was given up."),
    };
    let mut answer = match facts.status {
        Status::Submitted => "In the line: no worker has decided yet. Nothing was asked for.".to_owned(),
        Status::Held => format!("Not paid: {seat} is held, and WeChat has given no code yet."),
        Status::AwaitingPayment => format!("Not paid: {seat} is held and {price_fen} can be paid."),
        Status::Confirmed if facts.is_waived => format!("Has {seat}: an operator waived the price. Nobody took money."),
        Status::Confirmed if promised_back_fen > Fen::ZERO => {
            format!("Paid {paid_fen} and has {seat}; {refunded_fen} of {promised_back_fen} asked for went back.")
        }
        Status::Confirmed => format!("Paid {paid_fen} and has {seat}."),
        Status::Rejected => format!("No seat could be had{why}. Nothing was charged."),
        Status::Lapsed => "Not paid in time: the hold ran out. It can still be paid while a seat is free.".to_owned(),
        Status::Cancelled if facts.is_waived => {
            "An operator waived the price and took the seat back. Nothing was charged.".to_owned()
        }
        Status::Cancelled if paid_fen > Fen::ZERO => {
            format!("Paid {paid_fen}; {refunded_fen} went back, and a person decided that the rest is not owed.")
        }
        Status::Cancelled => "Cancelled before it was paid; WeChat closed it. Nothing was charged.".to_owned(),
        Status::Expired => "Not paid by the deadline; WeChat closed it. Nothing was charged.".to_owned(),
        Status::Refunding => format!("{came_too_late} {refunded_fen} of it went back so far; the rest is on its way."),
        Status::Refunded => format!("{came_too_late} All of it went back."),
    };
    if set_aside_fen > Fen::ZERO {
        answer = answer.replace(" Nothing was charged.", "");
        answer.push_str(&format!(
            " WeChat took {set_aside_fen} that is not as ordered: it is set aside in a case, and a person decides."
        ));
    }
    for refund in facts.refunds.iter().filter(|refund| refund.asks_person && refund.status == RefundStatus::Requested) {
        answer.push_str(&format!(
            " WeChat did not take the refund of {}: it is still owed, it is not sent again, and a person must act.",
            refund.amount_fen
        ));
    }
    for refund in facts.refunds.iter().filter(|refund| refund.status == RefundStatus::Abnormal) {
        answer.push_str(&format!(
            " The payer's account could not take {}: it is still owed, and a person must act.",
            refund.amount_fen
        ));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: Status) -> Facts {
        let now = OffsetDateTime::UNIX_EPOCH;
        Facts {
            status,
            now,
            hold_expires_at: Some(now + time::Duration::minutes(15)),
            pay_before: Some(now + time::Duration::minutes(30)),
            holds_seat: matches!(status, Status::Held | Status::AwaitingPayment),
            seat_is_free: false,
            seat_no: Some(1),
            reason: None,
            is_waived: false,
            money: Money::default(),
            refunds: Vec::new(),
            pending: Vec::new(),
            open_cases: Vec::new(),
            proposed: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// Follows the words back through the table: each way must be one that the code would go.
    #[test]
    fn s4_2_every_way_to_an_ending_is_one_that_the_table_goes() {
        for status in Status::ALL {
            for ending in endings(&facts(status)) {
                let Some(through) = ending.through else { continue };
                let mut reached = HashSet::from([status]);
                for word in through {
                    let events: Vec<Event> = Event::ALL.into_iter().filter(|event| words(*event) == word).collect();
                    reached = reached
                        .into_iter()
                        .flat_map(|from| events.iter().map(move |event| step(from, *event)))
                        .filter_map(|step| match step {
                            Step::Move { to, .. } => Some(to),
                            Step::Stay { .. } | Step::AlreadyDone | Step::Irrelevant => None,
                        })
                        .collect();
                }
                assert!(reached.contains(&ending.status), "{status:?} to {:?}", ending.status);
            }
        }
    }

    #[test]
    fn s4_2_a_lapsed_order_without_a_free_seat_can_only_end_in_a_refund_or_closed() {
        let possible: Vec<Status> = endings(&facts(Status::Lapsed))
            .into_iter()
            .filter(|ending| ending.through.as_ref().is_some_and(|through| through.len() == 1))
            .map(|ending| ending.status)
            .collect();
        assert_eq!(possible, [Status::Cancelled, Status::Expired]);
    }

    #[test]
    fn deadlines_follow_each_other_as_the_table_says() {
        let told: Vec<Option<Status>> = next(&facts(Status::AwaitingPayment)).iter().map(|next| next.to).collect();
        assert_eq!(told, [Some(Status::Lapsed), Some(Status::Expired)]);
        assert!(next(&facts(Status::Confirmed)).is_empty());
    }
}
