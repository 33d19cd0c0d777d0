//! The second way to pay: the sheet inside WeChat, for customers whom the token names to WeChat.

use holdfast::api::Role;
use reqwest::StatusCode;
use serde_json::json;

use crate::stack::{Answer, PRICE_FEN, Stack};

#[tokio::test]
async fn s2_2_an_order_inside_wechat_is_paid_by_the_sheet() {
    let stack = Stack::start("jsapi").await;
    let schedule = stack.add_schedule(2).await;
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN, "channel": "jsapi" });
    let nameless = stack.token_of_role("ann", Role::Customer);
    let refused = Answer::of(stack.submit_request(&nameless, "k", &body)).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (422, "invalid-request"));
    assert_eq!(refused.body["errors"][0]["field"], "channel");

    let ann = stack.quick_token("ann");
    let payable = Answer::of(stack.submit_request(&ann, "k", &body).header("Prefer", "wait=10")).await;
    assert_eq!(payable.status, StatusCode::CREATED, "{}", payable.body);
    assert_eq!((&payable.body["channel"], &payable.body["code_url"]), (&json!("jsapi"), &json!(null)));
    let sheet = &payable.body["jsapi"];
    assert!(sheet["package"].as_str().is_some_and(|package| package.starts_with("prepay_id=")), "{sheet}");
    assert_eq!(sheet["signType"], "RSA");
    for member in ["appId", "timeStamp", "nonceStr", "paySign"] {
        assert!(sheet[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {sheet}");
    }
    let order = payable.body["order_id"].as_str().expect("an id");
    assert_eq!(stack.order(&ann, order).await.body["jsapi"], *sheet, "the same sheet whenever it is read");

    assert_eq!(stack.pay(order).await.status, StatusCode::OK);
    let confirmed = stack.until_status(&ann, order, "confirmed").await;
    assert_eq!(confirmed["jsapi"], json!(null), "a paid sheet is not shown any more");
    stack.check_invariants().await;
    stack.check_ledger().await;
}
