//! The matrix bites: each safeguard left out turns the cell red that looks for it, which is green with it.

use crate::{
    cell::{Cell, Outcome, Point, Without},
    lane,
    matrix::lanes,
    stories::Story,
};

struct Safeguard {
    /// As `src/crash.rs` is told.
    name: &'static str,
    story: &'static str,
    role: &'static str,
    /// Where its process dies; none where nobody has to.
    point: &'static str,
    /// Only the fresh process does without.
    after_the_crash: bool,
}

const SAFEGUARDS: [Safeguard; 8] = [
    Safeguard {
        name: "publish_before_ack",
        story: "booking_paid",
        role: "seats",
        point: "publish.before:order.held>prepay",
        after_the_crash: false,
    },
    Safeguard {
        name: "follow_ups_again",
        story: "booking_paid",
        role: "seats",
        point: "commit.after:seats.take_in",
        after_the_crash: true,
    },
    Safeguard { name: "confirm", story: "queue_gone", role: "api", point: "", after_the_crash: false },
    Safeguard {
        name: "transaction_once",
        story: "booking_paid",
        role: "payments",
        point: "commit.after:payments.record",
        after_the_crash: true,
    },
    Safeguard {
        name: "message_name",
        story: "booking_paid",
        role: "notifications",
        point: "wechat.after:send_template",
        after_the_crash: true,
    },
    Safeguard {
        name: "refund_number",
        story: "refund_unheard",
        role: "refunds",
        point: "wechat.after:create_refund",
        after_the_crash: true,
    },
    Safeguard {
        name: "close_answer",
        story: "callback_late_by_a_cancel",
        role: "expiry",
        point: "",
        after_the_crash: false,
    },
    Safeguard {
        name: "query_before_freeing",
        story: "paid_as_the_hold_ends",
        role: "expiry",
        point: "",
        after_the_crash: false,
    },
];

impl Safeguard {
    fn cell(&self) -> Cell {
        let story = Story::named(self.story);
        let point = Point { role: self.role, name: self.point.to_owned() };
        if self.point.is_empty() {
            Cell { role: self.role, ..Cell::undisturbed(story) }
        } else {
            Cell::at(story, &point)
        }
    }

    fn left_out(&self) -> Cell {
        let without = Without { safeguard: self.name, after_the_crash: self.after_the_crash };
        Cell { without: Some(without), ..self.cell() }
    }
}

#[test]
fn s3_3_without_any_one_safeguard_a_cell_turns_red() {
    let cells = SAFEGUARDS.iter().flat_map(|safeguard| [safeguard.cell(), safeguard.left_out()]).collect();
    assert_those_without_are_red("safeguards", cells);
}

/// C2: two copies of a decision that was judged before the order's lock was held. The twin waits for the lock while the
/// first takes a seat, and takes another one.
#[test]
fn s3_3_without_judging_under_the_lock_a_twin_takes_a_second_seat() {
    let point = Point { role: "expiry", name: "commit.before:override.waive".to_owned() };
    let cell = Cell::with_a_twin(Story::named("waived_after_the_hold"), &point);
    let without = Some(Without { safeguard: "judge_under_lock", after_the_crash: false });
    assert_those_without_are_red("twin_safeguard", vec![cell.clone(), Cell { without, ..cell }]);
}

fn assert_those_without_are_red(name: &str, cells: Vec<Cell>) {
    for told in lane::play(name, lanes().min(4), cells) {
        let is_red = matches!(told.outcome, Outcome::Red(_));
        assert_eq!(is_red, told.cell.without.is_some(), "{}: {:?}", told.cell, told.outcome);
        assert_ne!(told.outcome, Outcome::NotReached, "{}", told.cell);
    }
}
