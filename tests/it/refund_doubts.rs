//! Refunds about which something is not clear yet: too early, in words that nobody knows, or taken and denied at once.
//! Each is asked about again under its one number, until WeChat has said how it ended.

use holdfast::domain::{
    message::{Message, RefundFacts, RefundSeen, RefundTold, Source},
    money::Fen,
    refund::RefundStanding,
};
use serde_json::json;

use crate::{
    metrics::Counts,
    queues::Queues,
    refunds::with_a_booking,
    stack::{PRICE_FEN, Stack, until},
    stopping::until_struck,
    story::hasty_with,
};

impl Stack {
    /// This goes wrong with the request, and the refund's callback never comes.
    async fn refund_untold(&self, rule: serde_json::Value) {
        self.script(&json!({ "rules": [rule, { "on": "callback_refund", "callback": "never" }] })).await;
    }
}

#[tokio::test]
async fn a_refund_asked_for_before_its_order_is_in_the_books_waits_for_it() {
    let mut stack = hasty_with("refund_too_early", 600, 1200, &["api", "refunds"]).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let refund = stack.lay_refund(&order, "early", None).await;
    let waiting = Queues::of(&stack).await.look_waiting("early").await;
    assert_eq!(waiting.json()["refund_id"], refund.as_str());
    stack.spawn("seats");
    assert_eq!(stack.until_refund(&refund, "refused").await.as_deref(), Some("not-paid"));
    stack.until_status(&ann, &order, "held").await;
    assert_eq!(stack.ready_in("refunds.dead").await, 0);
    stack.check_invariants().await;
}

#[tokio::test]
async fn a_state_of_a_refund_that_nobody_knows_concludes_nothing() {
    let (stack, ann, order) = with_a_booking("refund_unheard_of").await;
    stack.refund_untold(json!({ "on": "refund", "state": "DEFERRED" })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    let waiting = Queues::of(&stack).await.look_waiting("unfamiliar").await;
    assert_eq!(waiting.json()["refund_id"], refund.as_str());
    let noted = stack.until_refund(&refund, "requested").await;
    assert!(noted.is_some_and(|error| error.contains("DEFERRED")), "the books say what it waits for");
    stack.until_status(&ann, &order, "refunding").await;

    stack.script(&json!({})).await;
    stack.lay_refund_due(&refund).await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.ledger().await["refunds"].as_array().map(Vec::len), Some(1), "one number for ever");
    stack.check_money().await;
}

#[tokio::test]
async fn a_refund_that_wechat_took_and_then_calls_a_conflict_is_asked_about() {
    let (stack, ann, order) = with_a_booking("refund_conflict").await;
    stack.refund_untold(json!({ "on": "refund", "answer_lost": true })).await;
    stack.lay_refund(&order, "all", None).await;
    until_struck(&stack, 1).await;
    stack.refund_untold(json!({ "on": "refund", "status": 400, "code": "INVALID_REQUEST" })).await;
    stack.until_status(&ann, &order, "refunded").await;
    until_struck(&stack, 1).await;
    assert_eq!(stack.open_cases().await, []);
    assert_eq!(stack.ledger().await["refunds"].as_array().map(Vec::len), Some(1), "one number for ever");
    stack.check_money().await;
}

/// Word that WeChat is at work on it changes nothing, and what was said is not asked of the queue again.
#[tokio::test]
async fn word_of_a_refund_under_way_leaves_it_under_way() {
    let (stack, ann, order) = with_a_booking("refund_under_way").await;
    stack.refund_untold(json!({ "on": "refund", "refund": { "slow_ms": 600_000 } })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    stack.until_refund(&refund, "processing").await;
    until("the worker will ask by itself", async || (stack.ready_in("delay.30s").await == 1).then_some(())).await;
    let facts = RefundFacts {
        out_refund_no: refund.clone(),
        out_trade_no: order.clone(),
        wechat_refund_id: "5000000001".into(),
        standing: RefundStanding::Processing,
        refund_fen: Fen(PRICE_FEN),
        success_time: None,
        told: RefundTold::default(),
    };
    let source = Source::Callback { notification_id: "EV-under-way".into() };
    stack.lay(&Message::RefundSeen(RefundSeen { facts, source, request_id: "test".into(), taken_in: None })).await;
    until("it is heard", async || {
        let counts = Counts::of_worker(&stack, "refunds").await;
        (counts.sum("messages_total", &[("queue", "refunds"), ("outcome", "done")]) == 2).then_some(())
    })
    .await;
    assert_eq!(stack.ready_in("delay.30s").await, 1, "and by no second message");
    stack.until_refund(&refund, "processing").await;
    stack.until_status(&ann, &order, "refunding").await;
    let noted = "SELECT count(*) FROM wechat_callbacks WHERE event_type = 'REFUND.PROCESSING' AND outcome = 'settled'";
    assert_eq!(stack.count(noted).await, 1);
    stack.check_money().await;
}
