//! The other way to pay: an operator takes the money and records it.

use serde_json::json;

use crate::stack::{Choice, Stack, until};

#[tokio::test]
async fn an_operator_records_an_offline_payment_once_and_wechat_takes_none() {
    let stack = Stack::start("offline").await;
    let schedule = stack.add_schedule(1).await;
    let token = stack.quick_token("ann");
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;

    let record = ["order", "paid-offline", &order, "--amount-fen", "20000", "--receipt", "r-17", "--operator", "olga"];
    for _ in 0..2 {
        stack.holdfast_ok(&record).await;
    }
    let confirmed = stack.until_status(&token, &order, "confirmed").await;
    assert_eq!(confirmed["transaction_id"], "offline-r-17");
    assert_eq!(stack.pay(&order).await.status, 409, "closed at WeChat");
    assert_eq!(stack.count("SELECT count(*) FROM payment_transactions WHERE learned_by = 'operator'").await, 1);
    let why = stack
        .count("SELECT count(*) FROM payment_audit_log WHERE event = 'paid' AND reason LIKE '%paid offline, receipt r-17%'")
        .await;
    assert_eq!(why, 1);

    // Given back by hand as well: WeChat never had it, so a person is asked.
    let body = json!({ "reason": "ill" });
    let path = format!("/v1/orders/{order}/refunds");
    let asked = stack.request(reqwest::Method::POST, &path).bearer_auth(&token).header("Idempotency-Key", "r1");
    assert_eq!(asked.json(&body).send().await.expect("an answer").status(), 202);
    until("a case asks a person", async || {
        (stack.count("SELECT count(*) FROM cases WHERE status = 'open' AND kind = 'refund_abnormal'").await == 1)
            .then_some(())
    })
    .await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn an_offline_payment_above_the_configured_sum_wants_a_second_person() {
    let settings = vec![("HOLDFAST_OVERRIDE__SECOND_PERSON_FEN", "19999".to_owned())];
    let stack = Stack::start_with("offline_second", Choice { settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (token, order) = stack.payable("ann", &schedule).await;
    let record = ["order", "paid-offline", &order, "--amount-fen", "20000", "--receipt", "r-18", "--operator", "olga"];
    for _ in 0..2 {
        let proposed = stack.holdfast_ok(&[&record[..], &["--json"]].concat()).await;
        assert!(proposed.contains(r#""status":"proposed""#), "{proposed}");
    }
    assert_eq!(stack.order(&token, &order).await.body["status"], "awaiting_payment");
    let (code, _, _) = stack.holdfast(&["order", "override", &order, "approve", "--as", "olga"]).await;
    assert_eq!(code, 1, "nobody approves their own");
    stack.holdfast_ok(&["order", "override", &order, "approve", "--as", "otto"]).await;
    let confirmed = stack.until_status(&token, &order, "confirmed").await;
    assert_eq!(confirmed["transaction_id"], "offline-r-18");
    stack.check_invariants().await;
}
