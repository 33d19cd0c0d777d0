//! Order, query, close, pay: what a number may become, and what may be done to it twice.

use serde_json::json;

use crate::merchant::{MCHID, Merchant};

const NATIVE: &str = "/v3/pay/transactions/native";

#[tokio::test]
async fn an_order_is_placed_asked_for_paid_and_told() {
    let mut merchant = Merchant::new().await;
    let answer = merchant.post(NATIVE, &merchant.native("hf000001")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.is_genuine(), "{answer:?}");
    let code_url = answer.json()["code_url"].as_str().unwrap().to_owned();
    assert!(code_url.starts_with("weixin://wxpay/bizpayurl/up?pr=") && code_url.len() <= 64, "{code_url}");

    let unpaid = merchant.query("hf000001").await;
    assert!(unpaid.is_genuine());
    assert_eq!(unpaid.json()["trade_state"], "NOTPAY");
    assert!(unpaid.json().get("transaction_id").is_none());

    let (status, receipt) = merchant.sim("/_sim/pay", &json!({"code_url": code_url})).await;
    assert_eq!(status, 200);
    let callback = merchant.callback().await;
    assert!(callback.is_genuine());
    let told = callback.opened();
    assert_eq!(told["transaction_id"], receipt["transaction_id"]);

    let paid = merchant.query("hf000001").await.json();
    assert_eq!(paid, told, "the callback says what a query says");
    assert_eq!(paid["trade_state"], "SUCCESS");
    assert_eq!(paid["amount"]["total"], 20000);
    assert!(paid["success_time"].as_str().unwrap().ends_with("+08:00"));
    let by_transaction =
        format!("/v3/pay/transactions/id/{}?mchid={MCHID}", receipt["transaction_id"].as_str().unwrap());
    assert_eq!(merchant.get(&by_transaction).await.json(), paid);

    let ledger = merchant.ledger().await;
    assert_eq!(ledger["payments"][0]["out_trade_no"], "hf000001");
    assert_eq!(ledger["payments"][0]["total"], 20000);
    let (status, problem) = merchant.sim("/_sim/pay", &json!({"code_url": code_url})).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("paid")));
}

#[tokio::test]
async fn the_same_number_again_is_the_same_order_with_a_fresh_code() {
    let merchant = Merchant::new().await;
    let first = merchant.ordered("hf000001").await;
    let second = merchant.ordered("hf000001").await;
    assert_ne!(first, second);
    let (status, problem) = merchant.sim("/_sim/pay", &json!({"code_url": first})).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("code-replaced")));

    for (member, value) in [
        ("description", json!("另一门课")),
        ("notify_url", json!("https://example.com/other")),
        ("amount", json!({"total": 1, "currency": "CNY"})),
        ("attach", json!("x")),
    ] {
        let mut other = merchant.native("hf000001");
        other[member] = value;
        assert_eq!(merchant.post(NATIVE, &other).await.error(), (400, "INVALID_REQUEST".into()), "{member}");
    }
    let mut jsapi = merchant.native("hf000001");
    jsapi["payer"] = json!({"openid": "oSomebody"});
    let answer = merchant.post("/v3/pay/transactions/jsapi", &jsapi).await;
    assert_eq!(answer.error(), (403, "OUT_TRADE_NO_USED".into()));
    let (status, _) = merchant.sim("/_sim/pay", &json!({"code_url": second})).await;
    assert_eq!(status, 200);
    let again = merchant.post(NATIVE, &merchant.native("hf000001")).await;
    assert_eq!(again.error(), (400, "ORDERPAID".into()));
}

#[tokio::test]
async fn close_is_for_ever_and_says_little() {
    let merchant = Merchant::new().await;
    let code_url = merchant.ordered("hf000001").await;
    for number in ["hf000001", "hf000001", "hf-unknown"] {
        let closed = merchant.close(number).await;
        assert_eq!((closed.status, closed.body.len()), (204, 0));
        assert!(closed.is_genuine(), "204 is signed too");
    }
    assert_eq!(merchant.query("hf000001").await.json()["trade_state"], "CLOSED");
    assert_eq!(merchant.query("hf-unknown").await.error(), (404, "ORDER_NOT_EXIST".into()));
    let again = merchant.post(NATIVE, &merchant.native("hf000001")).await;
    assert_eq!(again.error(), (400, "ORDER_CLOSED".into()));
    let (status, problem) = merchant.sim("/_sim/pay", &json!({"code_url": code_url})).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("closed")));

    merchant.paid("hf000002").await;
    assert_eq!(merchant.close("hf000002").await.error(), (400, "ORDERPAID".into()));
}

#[tokio::test]
async fn a_code_ages_and_a_deadline_passes() {
    let merchant = Merchant::new().await;
    let code_url = merchant.ordered("hf000001").await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::hours(3);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let mut short = merchant.native("hf000002");
    short["time_expire"] = json!(soon);
    let mut past = merchant.native("hf000003");
    past["time_expire"] = json!("2020-01-01T00:00:00+08:00");
    for order in [&short, &past] {
        assert_eq!(merchant.post(NATIVE, order).await.status, 200);
    }
    assert_eq!(merchant.sim("/_sim/pay", &json!({"out_trade_no": "hf000003"})).await.0, 200, "lifted to a minute");

    merchant.sim("/_sim/clock", &json!({"advance_seconds": 7200})).await;
    let (status, problem) = merchant.sim("/_sim/pay", &json!({"code_url": code_url})).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("code-expired")));
    let fresh = merchant.ordered("hf000001").await;
    assert_eq!(merchant.sim("/_sim/pay", &json!({"code_url": fresh})).await.0, 200);

    merchant.sim("/_sim/clock", &json!({"advance_seconds": 3600})).await;
    let (status, problem) = merchant.sim("/_sim/pay", &json!({"out_trade_no": "hf000002"})).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("expired")));
    assert_eq!(merchant.query("hf000002").await.json()["trade_state"], "NOTPAY", "a deadline closes nothing");
    assert_eq!(merchant.post(NATIVE, &short).await.error(), (400, "INVALID_REQUEST".into()));
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 7 * 86400})).await;
    assert_eq!(merchant.query("hf000002").await.json()["trade_state"], "CLOSED", "after seven days WeChat closes");
}

#[tokio::test]
async fn inside_wechat_the_payer_is_known() {
    let merchant = Merchant::new().await;
    let mut order = merchant.native("hf000001");
    order["payer"] = json!({"openid": "oSomebody"});
    let answer = merchant.post("/v3/pay/transactions/jsapi", &order).await;
    assert!(answer.is_genuine());
    assert!(answer.json()["prepay_id"].as_str().unwrap().starts_with("wx"));
    merchant.sim("/_sim/pay", &json!({"out_trade_no": "hf000001"})).await;
    let paid = merchant.query("hf000001").await.json();
    assert_eq!((paid["payer"]["openid"].as_str(), paid["trade_type"].as_str()), (Some("oSomebody"), Some("JSAPI")));
}
