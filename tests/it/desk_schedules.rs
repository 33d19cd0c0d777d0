//! Sessions at the operators' desk: added, looked at seat by seat, cancelled and refunded over HTTP.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use holdfast::api::Role;

use crate::{
    stack::{Answer, PRICE_FEN},
    story::hasty,
};

#[tokio::test]
async fn p4_a_session_is_added_seen_seat_by_seat_and_cancelled_by_an_operator() {
    let mut stack = hasty("desk_schedules", 600, 1200).await;
    stack.spawn("reconcile");
    let operator = stack.token_of_role("olga", Role::Operator);
    let viewer = stack.token_of_role("vera", Role::Viewer);
    let path = "/v1/ops/schedules";
    let post = async |token: &str, path: &str, body: &Value| {
        Answer::of(stack.request(Method::POST, path).bearer_auth(token).json(body)).await
    };
    let wish = json!({ "capacity": 3, "course_id": "tea", "title": "茶道", "price_fen": PRICE_FEN });
    assert_eq!(post(&viewer, path, &wish).await.problem(), "forbidden");
    let wrong = post(&operator, path, &json!({ "capacity": 0, "rows": 1 })).await;
    assert_eq!(wrong.body["errors"].as_array().map(Vec::len), Some(3), "{}", wrong.body);
    let added = post(&operator, path, &wish).await;
    assert_eq!((added.status, &added.body["course"]), (StatusCode::CREATED, &json!("茶道")));
    let schedule = added.body["schedule_id"].as_str().expect("an id").to_owned();

    // By one name it is one session, of whoever gave the name.
    let named = async |token: &str, wish: &Value| {
        let request = stack.request(Method::POST, path).bearer_auth(token).header("Idempotency-Key", "k");
        Answer::of(request.json(wish)).await
    };
    let (first, again) = (named(&operator, &wish).await, named(&operator, &wish).await);
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::OK));
    assert_eq!(first.body["schedule_id"], again.body["schedule_id"]);
    assert_ne!(first.body["schedule_id"], json!(schedule));
    let other = json!({ "capacity": 4, "course_id": "calligraphy" });
    assert_eq!(named(&operator, &other).await.problem(), "idempotency-key-reused");
    assert_eq!(stack.count("SELECT count(*) FROM courses WHERE course_id = 'calligraphy'").await, 0);
    let theirs = named(&stack.token_of_role("oleg", Role::Operator), &wish).await;
    assert_eq!(theirs.status, StatusCode::CREATED);
    let cancelled = async |id: &Value| {
        let path = format!("{path}/{}/cancel", id.as_str().expect("an id"));
        post(&operator, &path, &json!({})).await.status
    };
    for id in [&first.body["schedule_id"], &theirs.body["schedule_id"]] {
        assert_eq!(cancelled(id).await, StatusCode::ACCEPTED);
    }

    let (ann, booked) = stack.booked("ann", &schedule).await;
    let (bob, held) = stack.payable("bob", &schedule).await;
    let one = format!("{path}/{schedule}");
    let seen = Answer::of(stack.request(Method::GET, &one).bearer_auth(&viewer)).await.body;
    let seats: Vec<(&Value, &Value)> =
        seen["seats"].as_array().expect("seats").iter().map(|seat| (&seat["state"], &seat["order_id"])).collect();
    let (confirmed, temporary, free) = (json!("confirmed"), json!("held"), json!("free"));
    assert_eq!(seats, [(&confirmed, &json!(booked)), (&temporary, &json!(held)), (&free, &json!(null))]);
    let listed = Answer::of(stack.request(Method::GET, path).bearer_auth(&viewer)).await.body;
    assert_eq!(listed["items"][0]["schedule_id"], json!(schedule));

    let cancel = format!("{one}/cancel");
    let would = post(&operator, &cancel, &json!({ "dry_run": true })).await;
    assert_eq!((would.status, &would.body["bookings"], &would.body["unpaid"]), (StatusCode::OK, &json!(1), &json!(1)));
    assert_eq!(stack.order(&bob, &held).await.body["status"], "awaiting_payment");
    for _ in 0..2 {
        assert_eq!(post(&operator, &cancel, &json!({ "rate": 50 })).await.status, StatusCode::ACCEPTED);
    }
    stack.until_status(&ann, &booked, "refunded").await;
    stack.until_status(&bob, &held, "cancelled").await;
    let by = "SELECT count(*) FROM payment_audit_log WHERE actor = 'operator:olga' AND event IN ('cancelled', 'refund_requested')";
    assert_eq!(stack.count(by).await, 2);
    let unknown = format!("{path}/00000000-0000-0000-0000-000000000000/cancel");
    assert_eq!(post(&operator, &unknown, &json!({})).await.problem(), "no-such-schedule");
    stack.check_money().await;
}
