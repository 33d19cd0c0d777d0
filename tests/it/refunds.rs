//! Money on its way back: once, whatever is asked twice, gets lost, is refused or comes in the wrong order.

use holdfast::domain::{
    message::{Message, RefundFacts, RefundSeen, RefundTold, Source},
    money::Fen,
    refund::RefundStanding,
};
use reqwest::StatusCode;
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    forgery::Forger,
    queues::Queues,
    stack::{PRICE_FEN, Stack, until},
    story::hasty,
};

/// A stack with one booking of ann's: her token and the order.
pub(crate) async fn with_a_booking(test: &str) -> (Stack, String, String) {
    let stack = hasty(test, 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    (stack, ann, order)
}

impl Stack {
    async fn on_refund(&self, what: serde_json::Value) {
        let mut rule = json!({ "on": "refund" });
        rule.as_object_mut().expect("an object").extend(what.as_object().expect("an object").clone());
        self.script(&json!({ "rules": [rule] })).await;
    }
}

#[tokio::test]
async fn two_partial_refunds_together_exceeding_the_sum() {
    let (stack, ann, order) = with_a_booking("partial_refunds").await;
    for _ in 0..2 {
        stack.lay_refund(&order, "first", Some(15_000)).await;
        stack.lay_refund(&order, "second", Some(15_000)).await;
    }
    let partly = until("one of them is refunded", async || {
        let answer = stack.order(&ann, &order).await;
        (answer.body["refunded_fen"] == 15_000).then_some(answer.body)
    })
    .await;
    assert_eq!(partly["status"], "confirmed");
    stack.until_count("the other is refused", "SELECT count(*) FROM refunds WHERE status = 'refused'", 1).await;

    stack.advance_simulator(120).await;
    stack.lay_refund(&order, "rest", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1, "the seat is free again");
    stack.check_money().await;
}

#[tokio::test]
async fn refund_request_twice() {
    let (stack, ann, order) = with_a_booking("refund_request_twice").await;
    let unpaid_session = stack.add_schedule(1).await;
    let (_, unpaid) = stack.payable("bob", &unpaid_session).await;
    for _ in 0..2 {
        stack.lay_refund(&order, "all", None).await;
        let refused = stack.lay_refund(&unpaid, "all", None).await;
        assert_eq!(stack.until_refund(&refused, "refused").await.as_deref(), Some("not-paid"));
    }
    stack.until_status(&ann, &order, "refunded").await;
    stack.lay_refund(&order, "all", None).await;
    let more = stack.lay_refund(&order, "more", None).await;
    assert_eq!(stack.until_refund(&more, "refused").await.as_deref(), Some("nothing-left"));
    until("all is worked off", async || (stack.ready_in("refunds").await == 0).then_some(())).await;
    assert_eq!(stack.ready_in("refunds.dead").await, 0);
    assert_eq!(stack.ledger().await["refunds"].as_array().map(Vec::len), Some(1), "one number for ever");
    stack.check_money().await;
}

#[tokio::test]
async fn refund_while_another_runs() {
    let (stack, ann, order) = with_a_booking("refund_while_another_runs").await;
    stack.on_refund(json!({ "refund": { "slow_ms": 1500 }, "count": 1 })).await;
    let first = stack.lay_refund(&order, "first", Some(5_000)).await;
    stack.until_refund(&first, "processing").await;
    let second = stack.lay_refund(&order, "second", None).await;
    stack.until_refund(&second, "requested").await;
    stack.until_refund(&first, "succeeded").await;
    let ledger = stack.ledger().await;
    assert_eq!(ledger["refunds"].as_array().map(Vec::len), Some(1), "WeChat heard of one at a time");
    // WeChat takes one a minute of an order; meanwhile it answers 429.
    stack.advance_simulator(61).await;
    until("the second is refunded", async || {
        stack.lay_refund_due(&second).await;
        (stack.order(&ann, &order).await.body["status"] == "refunded").then_some(())
    })
    .await;
    stack.check_money().await;
}

#[tokio::test]
async fn refund_in_doubt() {
    let (stack, ann, order) = with_a_booking("refund_in_doubt").await;
    stack.on_refund(json!({ "answer_lost": true, "count": 2 })).await;
    stack.lay_refund(&order, "all", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    let refunds = stack.ledger().await["refunds"].as_array().map(Vec::len);
    assert_eq!(refunds, Some(1), "one number for ever");
    stack.check_money().await;
}

#[tokio::test]
async fn refund_callback_before_the_payments() {
    let stack = hasty("refund_callback_first", 600, 1200).await;
    // The query tells of the payment; its callback takes its time.
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": { "late_ms": 6000 } }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    stack.lay_refund(&order, "all", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    stack
        .until_count(
            "both callbacks are noted, the payment's as known before",
            "SELECT count(*) FROM wechat_callbacks
          WHERE (event_type, outcome) IN (('REFUND.SUCCESS', 'settled'), ('TRANSACTION.SUCCESS', 'repeated'))",
            2,
        )
        .await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.check_money().await;
}

#[tokio::test]
async fn abnormal_refund() {
    let (stack, ann, order) = with_a_booking("abnormal_refund").await;
    stack.on_refund(json!({ "refund": "ABNORMAL" })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    stack.until_refund(&refund, "abnormal").await;
    assert_eq!(stack.open_cases().await, [("refund_abnormal".to_owned(), refund.clone())]);
    // The money is still owed.
    stack.until_status(&ann, &order, "refunding").await;
    stack.check_money().await;

    // Somebody gave WeChat another account for it: its last word closes the case.
    let forger = Forger::of(&stack);
    let ledger = stack.ledger().await;
    let content = json!({
        "mchid": stack.environment["HOLDFAST_WECHAT_PAY__MCHID"], "out_trade_no": order, "out_refund_no": refund,
        "transaction_id": ledger["payments"][0]["transaction_id"], "refund_id": ledger["refunds"][0]["refund_id"],
        "refund_status": "SUCCESS", "success_time": "2030-01-01T10:00:00+08:00", "user_received_account": "招商银行",
        "amount": { "total": PRICE_FEN, "refund": PRICE_FEN, "payer_total": PRICE_FEN, "payer_refund": PRICE_FEN },
    });
    let body = forger.envelope("REFUND.SUCCESS", &content.to_string(), &forger.apiv3_key);
    let letter = forger.sign(body, OffsetDateTime::now_utc());
    for _ in 0..2 {
        let answer = letter.to(&stack, "refunds").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    let refunded = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(refunded["refunded_fen"], PRICE_FEN);
    assert_eq!(stack.open_cases().await, []);
    stack.check_invariants().await;
}

#[tokio::test]
async fn closed_refund_gets_a_new_number_and_only_then() {
    let (stack, ann, order) = with_a_booking("closed_refund").await;
    stack.on_refund(json!({ "refund": "CLOSED", "count": 1 })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    stack.until_refund(&refund, "closed").await;
    let next = format!("{refund}-n2");
    stack.until_refund(&next, "requested").await;
    stack.advance_simulator(61).await;
    // The first number, seen again in any way, leads to the second and to no third.
    until("the second number is refunded", async || {
        stack.lay_refund_due(&refund).await;
        (stack.order(&ann, &order).await.body["status"] == "refunded").then_some(())
    })
    .await;
    let numbers = stack.ledger().await["refunds"].as_array().map(Vec::len);
    assert_eq!(numbers, Some(2));
    stack.check_money().await;
}

/// Who heard it first died before it said what follows. Heard again, it leads to the same.
#[tokio::test]
async fn a_closed_refund_leads_to_its_successor_again() {
    let (mut stack, ann, order) = with_a_booking("closed_refund_again").await;
    stack.on_refund(json!({ "refund": "CLOSED", "count": 1 })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    stack.until_refund(&refund, "closed").await;
    stack.kill("refunds");
    let queues = Queues::of(&stack).await;
    for queue in ["refunds", "delay.1s", "delay.5s", "delay.30s"] {
        queues.purge(queue).await;
    }
    stack.advance_simulator(61).await;
    let facts = RefundFacts {
        out_refund_no: refund,
        out_trade_no: order.clone(),
        wechat_refund_id: "heard before".into(),
        standing: RefundStanding::Closed,
        refund_fen: Fen(PRICE_FEN),
        success_time: None,
        told: RefundTold::default(),
    };
    stack
        .lay(&Message::RefundSeen(RefundSeen {
            facts,
            source: Source::Query,
            request_id: "again".into(),
            taken_in: None,
        }))
        .await;
    stack.spawn("refunds");
    stack.until_status(&ann, &order, "refunded").await;
    stack.check_money().await;
}

#[tokio::test]
async fn not_enough() {
    let (stack, ann, order) = with_a_booking("not_enough").await;
    stack.on_refund(json!({ "refund": "NOT_ENOUGH" })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    until("a person is told", async || {
        (stack.open_cases().await == [("merchant_balance".to_owned(), refund.clone())]).then_some(())
    })
    .await;
    assert!(stack.until_refund(&refund, "requested").await.is_some_and(|error| error.contains("NOT_ENOUGH")));
    stack.script(&json!({})).await;
    stack.lay_refund_due(&refund).await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.open_cases().await, []);
    stack.check_money().await;
}

#[tokio::test]
async fn resource_not_exists_just_after_payment() {
    let (stack, ann, order) = with_a_booking("resource_not_exists").await;
    stack.on_refund(json!({ "status": 404, "code": "RESOURCE_NOT_EXISTS", "count": 2 })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    until("refunded under the same number", async || {
        stack.lay_refund_due(&refund).await;
        (stack.order(&ann, &order).await.body["status"] == "refunded").then_some(())
    })
    .await;
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 1);
    assert_eq!(stack.open_cases().await, []);
    stack.check_money().await;
}

/// WeChat will not take it, and has nothing under its number: a person must act, and nothing is lost meanwhile.
#[tokio::test]
async fn a_refund_that_wechat_refuses_for_good_is_a_case() {
    for (test, rule, kind) in [
        ("payer_account_abnormal", json!({ "refund": "USER_ACCOUNT_ABNORMAL" }), "payer_account_abnormal"),
        ("refund_refused", json!({ "status": 400, "code": "INVALID_REQUEST" }), "refund_refused"),
    ] {
        let (stack, ann, order) = with_a_booking(test).await;
        stack.on_refund(rule).await;
        let refund = stack.lay_refund(&order, "all", None).await;
        until("a person is told", async || {
            (stack.open_cases().await == [(kind.to_owned(), refund.clone())]).then_some(())
        })
        .await;
        stack.until_status(&ann, &order, "refunding").await;
        // Mended at WeChat, it goes on when WeChat reports it, and by no message of ours: tests/it/refund_ends.rs.
        stack.script(&json!({})).await;
        let case = stack.case_of(&refund).await;
        let words = ["case", "close", &case, "--resolution", "again", "--not-owed"];
        stack.holdfast_ok(&words).await;
        stack.lay_refund(&order, "again", None).await;
        stack.until_status(&ann, &order, "refunded").await;
        assert_eq!(stack.open_cases().await, []);
        assert_eq!(stack.ready_in("refunds.dead").await, 0);
        stack.check_money().await;
    }
}

#[tokio::test]
async fn a_refund_that_is_not_as_we_know_it_is_a_case_and_settles_nothing() {
    let (stack, ann, order) = with_a_booking("refund_not_ours").await;
    stack.on_refund(json!({ "refund": { "slow_ms": 600_000 } })).await;
    let ours = stack.lay_refund(&order, "part", Some(5_000)).await;
    stack.until_refund(&ours, "processing").await;
    let elsewhere = format!("{}x", &ours[..ours.len() - 1]);
    for (out_refund_no, refund_fen) in [("OTHER_SYSTEM|1*", 5_000), (&*elsewhere, 5_000), (&*ours, 5_001)] {
        let facts = RefundFacts {
            out_refund_no: out_refund_no.to_owned(),
            out_trade_no: order.clone(),
            wechat_refund_id: format!("50-{out_refund_no}"),
            standing: RefundStanding::Success,
            refund_fen: Fen(refund_fen),
            success_time: None,
            told: RefundTold::default(),
        };
        let source = Source::Callback { notification_id: format!("EV-{out_refund_no}-{refund_fen}") };
        let seen = RefundSeen { facts, source, request_id: "a callback".into(), taken_in: None };
        for _ in 0..2 {
            stack.lay(&Message::RefundSeen(seen.clone())).await;
        }
    }
    let expected =
        [("refund_mismatch", &*ours), ("unknown_refund", "OTHER_SYSTEM|1*"), ("unknown_refund", &*elsewhere)];
    until("each is one case", async || {
        let mut cases = stack.open_cases().await;
        cases.sort();
        cases.iter().map(|(kind, subject)| (&**kind, &**subject)).eq(sorted(expected)).then_some(())
    })
    .await;
    until("all is worked off", async || (stack.ready_in("refunds").await == 0).then_some(())).await;
    let noted: Vec<(String, i64)> = sqlx::query_as(
        "SELECT outcome, count(*) FROM wechat_callbacks WHERE event_type = 'REFUND.SUCCESS' GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&stack.db)
    .await
    .expect("callbacks");
    assert_eq!(noted, [("mismatched".to_owned(), 1), ("settled".to_owned(), 2)]);
    // What WeChat gave back of the order without us counts; what is not as we know it settles nothing.
    assert_eq!(stack.order(&ann, &order).await.body["refunded_fen"], 10_000);
    assert_eq!(stack.until_refund(&ours, "processing").await, None);
    assert_eq!(stack.ready_in("refunds.dead").await, 0);
    stack.check_invariants().await;
}

fn sorted<T: Ord, const N: usize>(mut list: [T; N]) -> [T; N] {
    list.sort();
    list
}

/// WeChat refuses the fifty-first, so we promise fifty and no more.
#[tokio::test]
async fn an_order_has_at_most_fifty_refunds() {
    let (stack, ann, order) = with_a_booking("fifty_refunds").await;
    stack.on_refund(json!({ "refund": { "slow_ms": 600_000 } })).await;
    for number in 1..=50 {
        stack.lay_refund(&order, &number.to_string(), Some(1)).await;
    }
    let promised = "SELECT count(*) FROM refunds WHERE status IN ('requested', 'processing')";
    stack.until_count("fifty are promised", promised, 50).await;
    let refused = stack.lay_refund(&order, "one-more", Some(1)).await;
    assert_eq!(stack.until_refund(&refused, "refused").await.as_deref(), Some("too-many-refunds"));
    let under_way = "SELECT count(*) FROM refunds WHERE status = 'processing'";
    stack.until_count("WeChat has the first", under_way, 1).await;
    assert_eq!(stack.order(&ann, &order).await.body["status"], "confirmed");
    assert_eq!(stack.count("SELECT refund_promised_fen FROM payment_orders").await, 50);
    stack.check_money().await;
}
