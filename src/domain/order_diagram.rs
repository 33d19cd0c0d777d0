//! The life of an order, and of a refund, as people read it: the tables and diagrams of `docs/order-life.md`, drawn
//! from [`step`] and [`refund::step`]. A test compares.
//!
//! Every status meets every event; nothing is drawn that the code does not do, and nothing that it does is left out.

use std::fmt::Write;

use super::{
    order::{Effect, Event, Left, SeatAtPayment, Status, Step, step},
    refund::{self, RefundEffect, RefundStanding, RefundStatus, RefundStep},
};

/// Every event, those together that share a row when they lead to the same. [`words`] does not compile without the
/// newest one, which is the reminder to add it here.
const TOPICS: [&[Event]; 20] = [
    &[Event::SeatHeld],
    &[Event::NoSeat],
    &[Event::CodeIssued],
    &PAID,
    &[Event::PaidTooLate],
    &[Event::PaymentMismatched],
    &[Event::HoldOver],
    &[Event::DeadlineClosed],
    &[Event::CancelClosed],
    &[Event::RefundRequested { whole: true }],
    &[Event::RefundRequested { whole: false }],
    &[Event::RefundSucceeded { left: Left::Nothing }],
    &[Event::RefundSucceeded { left: Left::Promised }],
    &[Event::RefundSucceeded { left: Left::Kept }],
    &[Event::RefundDropped { left: Left::Nothing }],
    &[Event::RefundDropped { left: Left::Promised }],
    &[Event::RefundDropped { left: Left::Kept }],
    &GRANTED,
    &[Event::Revoked],
    &[Event::Returned],
];
const GRANTED: [Event; 3] =
    [Event::Granted(SeatAtPayment::Held), Event::Granted(SeatAtPayment::Free), Event::Granted(SeatAtPayment::None)];
const PAID: [Event; 3] =
    [Event::Paid(SeatAtPayment::Held), Event::Paid(SeatAtPayment::Free), Event::Paid(SeatAtPayment::None)];

/// An event as people say it.
pub(super) fn words(event: Event) -> &'static str {
    match event {
        Event::SeatHeld => "a seat is free",
        Event::NoSeat => "no seat can be had",
        Event::CodeIssued => "WeChat gave the code",
        Event::Paid(SeatAtPayment::Held) => "paid, the seat is held",
        Event::Paid(SeatAtPayment::Free) => "paid, another seat is free",
        Event::Paid(SeatAtPayment::None) => "paid, no seat is left",
        Event::PaidTooLate => "paid after the end of the sale",
        Event::PaymentMismatched => "paid, but not as ordered",
        Event::HoldOver => "hold over, WeChat says unpaid",
        Event::DeadlineClosed => "deadline over, WeChat closed it",
        Event::CancelClosed => "cancelled, WeChat closed it",
        Event::RefundRequested { whole: true } => "refund of all that is left",
        Event::RefundRequested { whole: false } => "refund of a part",
        Event::RefundSucceeded { left: Left::Nothing } => "all is given back",
        Event::RefundSucceeded { left: Left::Promised } => "a part is given back, more is on its way",
        Event::RefundSucceeded { left: Left::Kept } => "a part is given back, the rest stays",
        Event::RefundDropped { left: Left::Nothing } => {
            "a person ends a refund as not owed, what was owed is given back"
        }
        Event::RefundDropped { left: Left::Promised } => "a person ends a refund as not owed, another is on its way",
        Event::RefundDropped { left: Left::Kept } => "a person ends the last refund as not owed",
        Event::Granted(SeatAtPayment::Held) => "an operator waives the price, the seat is held",
        Event::Granted(SeatAtPayment::Free) => "an operator waives the price, a seat is free",
        Event::Granted(SeatAtPayment::None) => "an operator waives the price, no seat is left",
        Event::Revoked => "an operator takes a waived seat back",
        Event::Returned => "an operator gives back what was set aside",
    }
}

fn deed(effect: Effect) -> String {
    match effect {
        Effect::HoldSeat => "seat set aside".into(),
        Effect::FreeSeat => "seat freed".into(),
        Effect::ConfirmSeat => "reservation confirmed".into(),
        Effect::TakeFreeSeat => "a free seat taken".into(),
        Effect::IssueBooking => "booking issued".into(),
        Effect::RecordTransaction => "transaction recorded".into(),
        Effect::RefundAutomatically => "refund of the whole sum".into(),
        Effect::OpenCase => "case opened".into(),
        Effect::Notify(kind) => format!("message `{}`", kind.as_str()),
    }
}

/// Several events in a row's words.
fn any_of(events: &[Event]) -> String {
    if events == PAID {
        return "paid".into();
    }
    listed(events.iter().map(|event| words(*event)), " / ")
}

/// What changes something: from where, by what, to where (`None`: the status stays), with which effects.
struct Row {
    from: Vec<Status>,
    events: Vec<Event>,
    to: Option<Status>,
    effects: &'static [Effect],
}

/// In the order of the topics; statuses to which the same events do the same share a row.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for topic in TOPICS {
        let first = rows.len();
        for from in Status::ALL {
            for Row { events, to, effects, .. } in rows_of(from, topic) {
                let same = |row: &&mut Row| row.events == events && row.to == to && row.effects == effects;
                match rows[first..].iter_mut().find(same) {
                    Some(row) => row.from.push(from),
                    None => rows.push(Row { from: vec![from], events, to, effects }),
                }
            }
        }
    }
    rows
}

/// What the events of a topic change for one status, those together that lead to the same.
fn rows_of(from: Status, topic: &[Event]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for event in topic.iter().copied() {
        let (to, effects) = match step(from, event) {
            Step::Move { to, effects } => (Some(to), effects),
            Step::Stay { effects } => (None, effects),
            Step::AlreadyDone | Step::Irrelevant => continue,
        };
        match rows.iter_mut().find(|row| row.to == to && row.effects == effects) {
            Some(row) => row.events.push(event),
            None => rows.push(Row { from: vec![from], events: vec![event], to, effects }),
        }
    }
    rows
}

/// Every step that changes something, as a Markdown table.
pub fn steps() -> String {
    let mut table = String::from("| from | event | to | effects, in one commit |\n|---|---|---|---|\n");
    for Row { from, events, to, effects } in rows() {
        let from = if from == Status::ALL { "any".into() } else { listed(from.iter().map(|s| s.as_str()), ", ") };
        let to = to.map_or("stays", Status::as_str);
        let effects = if effects.is_empty() { "—".into() } else { listed(effects.iter().copied().map(deed), " · ") };
        line(&mut table, format_args!("| {from} | {} | {to} | {effects} |", any_of(&events)));
    }
    table
}

/// Every status against every event, as a Markdown table.
pub fn matrix() -> String {
    let mut table = String::from("| |");
    for status in Status::ALL {
        let _ = write!(table, " {} |", status.as_str());
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(Status::ALL.len()));
    table.push('\n');
    for event in TOPICS.concat() {
        let _ = write!(table, "| {} |", words(event));
        for status in Status::ALL {
            let cell = match step(status, event) {
                Step::Move { to, .. } => to.as_str(),
                Step::Stay { .. } => "stays",
                Step::AlreadyDone => "=",
                Step::Irrelevant => "·",
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    table
}

/// Every move, as a mermaid state diagram.
pub fn diagram() -> String {
    let mut drawing = String::from("stateDiagram-v2\n");
    line(&mut drawing, format_args!("    [*] --> {}", Status::Submitted.as_str()));
    for from in Status::ALL {
        let is_moved = |event: &Event| matches!(step(from, *event), Step::Move { .. });
        for to in Status::ALL {
            let leads_there = |event: &Event| matches!(step(from, *event), Step::Move { to: there, .. } if there == to);
            let events: Vec<Event> = TOPICS.concat().into_iter().filter(leads_there).collect();
            if !events.is_empty() {
                line(&mut drawing, format_args!("    {} --> {}: {}", from.as_str(), to.as_str(), any_of(&events)));
            }
        }
        if !TOPICS.concat().iter().any(is_moved) {
            line(&mut drawing, format_args!("    {} --> [*]", from.as_str()));
        }
    }
    drawing
}

/// Every move of a refund by WeChat's word, as a mermaid state diagram.
pub fn refund_diagram() -> String {
    let mut drawing = String::from("stateDiagram-v2\n");
    for first in [RefundStatus::Requested, RefundStatus::Refused] {
        line(&mut drawing, format_args!("    [*] --> {}", first.as_str()));
    }
    for from in RefundStatus::ALL {
        let mut ends = true;
        for standing in RefundStanding::ALL {
            let said = standing.as_str();
            match refund::step(from, standing) {
                RefundStep::Move { to, effect } => {
                    ends = false;
                    let effect = match effect {
                        RefundEffect::Nothing => "",
                        RefundEffect::Settle => ", the customer is told",
                        RefundEffect::OpenCase => ", a case is opened",
                        RefundEffect::Replace => ", a new number follows",
                    };
                    let (from, to) = (from.as_str(), to.as_str());
                    line(&mut drawing, format_args!("    {from} --> {to}: WeChat says {said}{effect}"));
                }
                RefundStep::Contradicts => {
                    let from = from.as_str();
                    line(&mut drawing, format_args!("    {from} --> {from}: WeChat says {said}, a case is opened"));
                }
                RefundStep::AlreadyDone => {}
            }
        }
        for ended in [RefundStatus::PaidByHand, RefundStatus::NotOwed] {
            if from.is_owed() {
                let (from, to) = (from.as_str(), ended.as_str());
                line(&mut drawing, format_args!("    {from} --> {to}: a person closes the case about it"));
            }
        }
        if ends {
            line(&mut drawing, format_args!("    {} --> [*]", from.as_str()));
        }
    }
    drawing
}

fn listed<T: AsRef<str>>(words: impl Iterator<Item = T>, between: &str) -> String {
    words.map(|word| word.as_ref().to_owned()).collect::<Vec<_>>().join(between)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
