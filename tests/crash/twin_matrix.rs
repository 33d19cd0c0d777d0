//! The twin matrix: each process paused at each point of each story, a twin handles a second copy of the same message,
//! then the first goes on. Two processes with one message are normal: a machine hangs longer than the broker waits.

use crate::{
    cell::{Cell, Told},
    matrix::{
        PLAYED, assert_in_every_point, assert_nothing_red, cut, is_whole, reached, some_stories, summarize, write,
    },
};

/// Always among those in `./dev test`: each kind of process at the moment in which a second one could do most harm.
const DANGEROUS: [(&str, &str, &str); 8] = [
    ("booking_paid", "api", "publish.before:order.submitted>orders"),
    ("booking_paid", "seats", "commit.before:seats.take_in"),
    ("booking_paid", "prepay", "wechat.before:create_order"),
    ("booking_paid", "payments", "commit.before:payments.record"),
    ("booking_paid", "notifications", "wechat.before:send_template"),
    ("whole_refund", "refunds", "wechat.before:create_refund"),
    ("callback_late_by_a_cancel", "expiry", "wechat.after:close_order"),
    ("queues_lost", "reconcile", "commit.before:reconcile.mark"),
];
const CUT: usize = 30;

pub(crate) fn cut_of(pauses: Vec<Cell>) -> Vec<Cell> {
    cut(pauses, &DANGEROUS, CUT)
}

#[test]
fn s3_3_a_twin_beside_a_process_paused_at_any_point_leaves_nothing_lost_and_nothing_twice() {
    let told: Vec<Told> = PLAYED.iter().filter(|told| told.cell.pause.is_some()).cloned().collect();
    let is_all = is_whole("twins") && some_stories().is_none();
    if is_all {
        write("twin", &told);
    }
    summarize(&told);
    assert_nothing_red(&told);
    if is_all {
        assert_in_every_point("no process was paused at", &reached(&told));
    }
}
