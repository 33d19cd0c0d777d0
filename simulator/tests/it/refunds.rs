//! Refunds: accepted, settled, told; sums, numbers and the minute between.

use serde_json::{Value, json};

use crate::merchant::Merchant;

const REFUNDS: &str = "/v3/refund/domestic/refunds";

fn refund(merchant: &Merchant, out_trade_no: &str, number: &str, fen: i64) -> Value {
    json!({
        "out_trade_no": out_trade_no, "out_refund_no": number, "reason": "课程取消", "notify_url": merchant.notify_url,
        "amount": {"refund": fen, "total": 20000, "currency": "CNY"},
    })
}

async fn status(merchant: &Merchant, number: &str) -> String {
    merchant.get(&format!("{REFUNDS}/{number}")).await.json()["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refund_is_accepted_then_settled_and_told() {
    let mut merchant = Merchant::new().await;
    let transaction_id = merchant.paid("hf000001").await;
    merchant.callback().await;
    let request = refund(&merchant, "hf000001", "rf1", 5000);
    let answer = merchant.post(REFUNDS, &request).await;
    assert!(answer.is_genuine());
    let accepted = answer.json();
    assert_eq!(accepted["status"], "PROCESSING");
    assert_eq!(accepted["transaction_id"], transaction_id);
    assert_eq!(merchant.query("hf000001").await.json()["trade_state"], "REFUND", "though only a part");

    let callback = merchant.callback().await;
    assert!(callback.is_genuine());
    assert_eq!(callback.envelope()["event_type"], "REFUND.SUCCESS");
    let told = callback.opened();
    assert_eq!((told["refund_status"].as_str(), told["amount"]["refund"].as_i64()), (Some("SUCCESS"), Some(5000)));
    assert!(told.get("status").is_none() && told.get("appid").is_none() && told["amount"].get("currency").is_none());
    assert_eq!(status(&merchant, "rf1").await, "SUCCESS");

    let again = merchant.post(REFUNDS, &request).await.json();
    assert_eq!(again["refund_id"], accepted["refund_id"], "one number, one refund");
    let other = merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf1", 6000)).await;
    assert_eq!(other.error(), (400, "INVALID_REQUEST".into()));
    assert_eq!(merchant.ledger().await["refunds"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn no_more_goes_back_than_came() {
    let merchant = Merchant::new().await;
    merchant.paid("hf000001").await;
    assert_eq!(merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf1", 15000)).await.status, 200);
    let soon = merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf2", 5000)).await;
    assert_eq!(soon.error(), (429, "FREQUENCY_LIMITED".into()));
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 61})).await;
    let much = merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf2", 5001)).await;
    assert_eq!(much.error(), (400, "INVALID_REQUEST".into()));
    assert_eq!(merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf2", 5000)).await.status, 200);

    let mut wrong_total = refund(&merchant, "hf000001", "rf3", 1);
    wrong_total["amount"]["total"] = json!(19999);
    assert_eq!(merchant.post(REFUNDS, &wrong_total).await.error(), (400, "INVALID_REQUEST".into()));
    for pointer in ["/out_trade_no", "/amount/currency", "/out_refund_no"] {
        let mut missing = refund(&merchant, "hf000001", "rf3", 1);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        missing.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert_eq!(merchant.post(REFUNDS, &missing).await.error(), (400, "PARAM_ERROR".into()), "{pointer}");
    }
}

#[tokio::test]
async fn fifty_parts_and_no_more() {
    let merchant = Merchant::new().await;
    merchant.paid("hf000001").await;
    for number in 0..50 {
        let answer = merchant.post(REFUNDS, &refund(&merchant, "hf000001", &format!("rf{number}"), 1)).await;
        assert_eq!(answer.status, 200);
        merchant.sim("/_sim/clock", &json!({"advance_seconds": 61})).await;
    }
    let answer = merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf50", 1)).await;
    assert_eq!(answer.error(), (400, "INVALID_REQUEST".into()));
}

#[tokio::test]
async fn nothing_to_refund() {
    let merchant = Merchant::new().await;
    merchant.ordered("hf000001").await;
    for number in ["hf000001", "hf-unknown"] {
        let answer = merchant.post(REFUNDS, &refund(&merchant, number, "rf1", 1)).await;
        assert_eq!(answer.error(), (404, "RESOURCE_NOT_EXISTS".into()));
    }
    assert_eq!(merchant.get(&format!("{REFUNDS}/rf1")).await.error(), (404, "RESOURCE_NOT_EXISTS".into()));
}

#[tokio::test]
async fn refunds_go_wrong_on_demand() {
    let mut merchant = Merchant::new().await;
    for (order, fate, event) in
        [("hf-abnormal", "ABNORMAL", "REFUND.ABNORMAL"), ("hf-closed", "CLOSED", "REFUND.CLOSED")]
    {
        merchant.script(json!([{"on": "refund", "refund": fate}])).await;
        merchant.paid(order).await;
        merchant.callback().await;
        assert_eq!(merchant.post(REFUNDS, &refund(&merchant, order, fate, 20000)).await.status, 200);
        assert_eq!(merchant.callback().await.envelope()["event_type"], event);
        assert_eq!(status(&merchant, fate).await, fate);
        merchant.sim("/_sim/clock", &json!({"advance_seconds": 61})).await;
    }
    merchant.script(json!([])).await;
    let again = merchant.post(REFUNDS, &refund(&merchant, "hf-closed", "rf-new", 20000)).await;
    assert_eq!(again.status, 200, "a closed refund's money is free again, under a new number");
    let again = merchant.post(REFUNDS, &refund(&merchant, "hf-abnormal", "rf-other", 20000)).await;
    assert_eq!(again.error(), (400, "INVALID_REQUEST".into()), "an abnormal one's is not");
    merchant.callback().await;

    merchant.paid("hf-poor1").await;
    merchant.callback().await;
    let request = refund(&merchant, "hf-poor1", "rf-poor", 20000);
    merchant
        .script(json!([
            {"on": "refund", "refund": "NOT_ENOUGH", "count": 1},
            {"on": "refund", "status": 404, "code": "RESOURCE_NOT_EXISTS", "count": 2},
        ]))
        .await;
    assert_eq!(merchant.post(REFUNDS, &request).await.error(), (404, "RESOURCE_NOT_EXISTS".into()));
    assert_eq!(merchant.post(REFUNDS, &request).await.error(), (404, "RESOURCE_NOT_EXISTS".into()));
    merchant
        .script(json!([
            {"on": "refund", "refund": "NOT_ENOUGH", "count": 1},
            {"on": "refund", "refund": {"slow_ms": 600_000}},
        ]))
        .await;
    assert_eq!(merchant.post(REFUNDS, &request).await.error(), (403, "NOT_ENOUGH".into()));
    assert_eq!(merchant.post(REFUNDS, &request).await.status, 200);
    assert_eq!(status(&merchant, "rf-poor").await, "PROCESSING");
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 600})).await;
    assert_eq!(merchant.callback().await.opened()["out_refund_no"], "rf-poor");
}

#[tokio::test]
async fn an_abnormal_refund_goes_another_way() {
    let mut merchant = Merchant::new().await;
    merchant.script(json!([{"on": "refund", "refund": "ABNORMAL"}])).await;
    merchant.paid("hf000001").await;
    merchant.callback().await;
    let refunded = merchant.post(REFUNDS, &refund(&merchant, "hf000001", "rf1", 20000)).await.json();
    let path = format!("{REFUNDS}/{}/apply-abnormal-refund", refunded["refund_id"].as_str().unwrap());
    let to_merchant = json!({"out_refund_no": "rf1", "type": "MERCHANT_BANK_CARD"});
    let running = merchant.post(&path, &to_merchant).await;
    assert_eq!(running.error(), (400, "INVALID_REQUEST".into()), "not while it is under way");
    assert_eq!(merchant.callback().await.envelope()["event_type"], "REFUND.ABNORMAL");

    let mut to_card = json!({
        "out_refund_no": "rf1", "type": "USER_BANK_CARD", "bank_type": "ICBC_DEBIT", "bank_account": "ZW5j",
    });
    assert_eq!(merchant.post(&path, &to_card).await.error(), (400, "PARAM_ERROR".into()), "encrypted for which key?");
    merchant.asks_for = Some(crate::merchant::KEYS.public_key_id.clone());
    assert_eq!(merchant.post(&path, &to_card).await.error(), (400, "PARAM_ERROR".into()), "whose account?");
    to_card["real_name"] = json!("ZW5j");
    let other = format!("{REFUNDS}/50300000/apply-abnormal-refund");
    assert_eq!(merchant.post(&other, &to_card).await.error(), (404, "RESOURCE_NOT_EXISTS".into()));
    let accepted = merchant.post(&path, &to_card).await;
    assert_eq!((accepted.status, accepted.json()["status"].as_str()), (200, Some("PROCESSING")));
    assert_eq!(merchant.callback().await.envelope()["event_type"], "REFUND.SUCCESS");
    assert_eq!(status(&merchant, "rf1").await, "SUCCESS");
}
