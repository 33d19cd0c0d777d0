//! The timer that looks at WeChat for an unpaid order: however often its message is there, WeChat is asked once a period.

use holdfast::domain::{
    ids::OrderId,
    message::{Alarm, Message, OrderAlarm},
};

use crate::stack::{Choice, Stack, until};

/// Copies of the timer beside the order's own, and looks that are waited for.
const COPIES: usize = 9;
const LOOKS: i64 = 6;

/// D5: a redelivered message, or a queue that was lost, sets a timer beside the one that is there. The looks stay one a period,
/// and go on.
#[tokio::test]
async fn d5_a_second_timer_starts_no_second_row_of_looks() {
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "1".to_owned())];
    let roles = vec!["api", "seats", "prepay", "expiry"];
    let stack = Stack::start_with("looks", Choice { settings, roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    let order_id = OrderId::try_from(order).expect("an id");
    for _ in 0..COPIES {
        let copy = OrderAlarm { order_id: order_id.clone(), alarm: Alarm::Check, after_ms: 1_000 };
        stack.lay(&Message::OrderAlarm(copy)).await;
    }
    let looks = "SELECT count(*) FROM order_trace WHERE what = 'query_order'";
    until("looks go on", async || (stack.count(looks).await >= LOOKS).then_some(())).await;
    // Of the whole row, from the first look to the last one, by the times that stand with them.
    let (count, periods): (i64, f64) = sqlx::query_as(
        "SELECT count(*), (extract(epoch FROM max(at) - min(at)) / 0.75)::float8 FROM order_trace WHERE what = 'query_order'",
    )
    .fetch_one(&stack.db)
    .await
    .expect("the looks");
    assert!((count as f64) <= periods + 2.0, "{count} looks in {periods} periods");
    stack.check_invariants().await;
}
