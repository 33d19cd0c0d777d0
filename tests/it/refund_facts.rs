//! What WeChat signs is compared in every part before it settles: refunds with their order and payment, payments with
//! the order that they are recorded for.

use holdfast::domain::{
    message::{Message, Payment, PaymentSeen, Source},
    money::Fen,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    forgery::Forger,
    refunds::with_a_booking,
    stack::{PRICE_FEN, Stack, until},
    story::hasty,
};

/// B5: a signed callback about our refund, with one other fact, settles nothing and is a case.
#[tokio::test]
async fn a_signed_refund_with_one_other_fact_settles_nothing() {
    let (stack, ann, order) = with_a_booking("refund_facts").await;
    let rules = json!([{ "on": "refund", "refund": { "slow_ms": 600_000 } }]);
    stack.script(&json!({ "rules": rules })).await;
    let refund = stack.lay_refund(&order, "part", Some(5_000)).await;
    stack.until_refund(&refund, "processing").await;
    let ledger = stack.ledger().await;
    let right = json!({
        "mchid": stack.environment["HOLDFAST_WECHAT_PAY__MCHID"], "out_trade_no": order, "out_refund_no": refund,
        "transaction_id": ledger["payments"][0]["transaction_id"], "refund_id": ledger["refunds"][0]["refund_id"],
        "refund_status": "SUCCESS", "success_time": "2026-01-01T10:00:00+08:00", "user_received_account": "招商银行",
        "amount": { "total": PRICE_FEN, "refund": 5_000, "payer_total": PRICE_FEN, "payer_refund": 5_000 },
    });
    let forger = Forger::of(&stack);
    let call = async |content: &Value| {
        let body = forger.envelope("REFUND.SUCCESS", &content.to_string(), &forger.apiv3_key);
        let answer =
            forger.sign(body, OffsetDateTime::now_utc()).to(&stack, "refunds").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    };
    let mismatched = "SELECT count(*) FROM wechat_callbacks WHERE outcome = 'mismatched'";
    for (count, (place, other)) in [
        ("/mchid", json!("1900000000")),
        ("/transaction_id", json!("4200000000000000000000000000")),
        ("/out_trade_no", json!("hf000000000000000000000001")),
        ("/amount/total", json!(PRICE_FEN + 1)),
        ("/amount/refund", json!(4_999)),
        ("/amount/currency", json!("USD")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut content = right.clone();
        match place.strip_prefix("/amount/") {
            Some(member) => content["amount"][member] = other,
            None => content[&place[1..]] = other,
        }
        call(&content).await;
        stack.until_count(place, mismatched, count as i64 + 1).await;
        assert_eq!(stack.order(&ann, &order).await.body["refunded_fen"], 0, "{place}");
    }
    assert_eq!(stack.open_cases().await, [("refund_mismatch".to_owned(), refund.clone())]);
    stack.until_refund(&refund, "processing").await;

    call(&right).await;
    stack.until_refund(&refund, "succeeded").await;
    assert_eq!(stack.open_cases().await, []);
    stack.check_invariants().await;
}

fn payment(stack: &Stack, order: &str, transaction_id: &str) -> Message {
    let payment = Payment {
        out_trade_no: order.to_owned(),
        transaction_id: transaction_id.to_owned(),
        mchid: stack.environment["HOLDFAST_WECHAT_PAY__MCHID"].clone(),
        appid: stack.environment["HOLDFAST_WECHAT_PAY__APPID"].clone(),
        trade_type: "NATIVE".into(),
        bank_type: None,
        total_fen: Fen(PRICE_FEN),
        payer_total_fen: None,
        currency: "CNY".into(),
        success_time: Some(OffsetDateTime::now_utc()),
        refunded: false,
    };
    Message::PaymentSeen(PaymentSeen { payment, source: Source::Query, request_id: "r".into() })
}

/// B6: one payment for two orders is a case that names both, and is parked by nobody.
#[tokio::test]
async fn one_payment_for_two_orders_is_a_case_that_names_both() {
    let stack = hasty("two_orders", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.lay(&payment(&stack, &first, "42-both")).await;
    stack.until_status(&ann, &first, "confirmed").await;
    for _ in 0..2 {
        stack.lay(&payment(&stack, &second, "42-both")).await;
    }
    let subject = format!("42-both/{second}");
    until("the case is open", async || {
        (stack.open_cases().await == [("transaction_of_two_orders".to_owned(), subject.clone())]).then_some(())
    })
    .await;
    let details: Value = sqlx::query_scalar("SELECT details || jsonb_build_object('order', order_id) FROM cases")
        .fetch_one(&stack.db)
        .await
        .expect("a case");
    assert_eq!((&details["recorded_for"], &details["order"]), (&json!(first), &json!(second)));
    until("all is worked off", async || (stack.ready_in("payments").await == 0).then_some(())).await;
    assert_eq!(stack.ready_in("payments.dead").await, 0);
    assert_eq!(stack.order(&bob, &second).await.body["status"], "awaiting_payment");
    stack.verified().await;
}
