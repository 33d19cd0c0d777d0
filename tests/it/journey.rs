//! One booking from click to confirmed seat through the real servers. A new reader starts here.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::stack::{Answer, PRICE_FEN, Stack, until};

#[tokio::test]
async fn s7_5_a_booking_runs_from_click_to_confirmed_seat() {
    let stack = Stack::start("journey").await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.token("ann").await;

    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN, "seat_no": 2 });
    let submitted = Answer::of(stack.submit_request(&token, "click-1", &body)).await;
    assert_eq!(submitted.status, StatusCode::ACCEPTED, "{}", submitted.body);
    assert_eq!(submitted.body["status"], "submitted");
    let order_id = submitted.body["order_id"].as_str().expect("an id").to_owned();
    assert_eq!(submitted.headers["location"], format!("/v1/orders/{order_id}"));

    let payable = stack.until_status(&token, &order_id, "awaiting_payment").await;
    assert_eq!(payable["seat_no"], 2);
    assert!(payable["code_url"].as_str().is_some_and(|url| url.starts_with("weixin://")), "{payable}");
    let availability =
        Answer::of(stack.request(Method::GET, &format!("/v1/schedules/{schedule}/availability")).bearer_auth(&token))
            .await
            .body;
    assert_eq!((&availability["held"], &availability["seats_free"]), (&json!(1), &json!([1])));

    let paid = stack.pay(&order_id).await;
    assert_eq!(paid.status, StatusCode::OK, "{}", paid.body);
    let confirmed = stack.until_status(&token, &order_id, "confirmed").await;
    assert_eq!(confirmed["transaction_id"], paid.body["transaction_id"]);
    assert_eq!(confirmed["code_url"], json!(null), "a paid code is not shown any more");

    let message = until("the customer is told", async || stack.messages_to("ann").await.pop()).await;
    assert_eq!(message["data"]["character_string5"]["value"], order_id.as_str());
    assert_eq!(message["data"]["thing3"]["value"], "2号座");
    stack.check_invariants().await;
}
