//! `/v1/schedules/{id}/waitlist`: join, leave, look, and the offer at the end of the wait.

use holdfast::{
    api::Role,
    cache::{Cache, catalogue::Card},
    domain::{ids::ScheduleId, money::Fen},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    queues::Queues,
    stack::{Answer, Choice, Stack, until},
};

async fn waitlist(stack: &Stack, method: Method, token: &str, schedule: &str) -> Answer {
    Answer::of(stack.request(method, &format!("/v1/schedules/{schedule}/waitlist")).bearer_auth(token)).await
}

#[tokio::test]
async fn s5_3_who_may_wait_for_what() {
    let stack = Stack::start_with("waitlist-answers", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let (free, full, closed) = (stack.add_schedule(2).await, stack.add_schedule(1).await, stack.add_schedule(1).await);
    sqlx::query("DELETE FROM free_seats WHERE schedule_id <> $1::uuid").bind(&free).execute(&stack.db).await.unwrap();
    let cache = Cache::open(&stack.settings().cache).expect("a readable URL");
    let card = Card { price_fen: Fen(20_000), open: false, times: None };
    cache.put_cards(&[(ScheduleId::parse(&closed).expect("an id"), card)]).await.expect("Redis");
    let ann = stack.quick_token("ann");
    let join = async |token: &str, schedule: &str| waitlist(&stack, Method::POST, token, schedule).await;

    let answer = join(&ann, &free).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (409, "seats-free"), "{}", answer.body);
    assert_eq!(answer.body["instead"], "/v1/orders");
    assert_eq!(join(&ann, &closed).await.problem(), "schedule-closed");
    for unknown in ["no-uuid", &Uuid::now_v7().to_string()] {
        for method in [Method::POST, Method::DELETE, Method::GET] {
            // Whether an unknown session can be left depends on what the catalogue knows; it is never joined.
            let answer = waitlist(&stack, method.clone(), &ann, unknown).await;
            let sure = method == Method::POST || unknown == "no-uuid";
            assert!(!sure || answer.problem() == "no-such-schedule", "{method} {unknown}: {}", answer.body);
        }
    }
    let queue = format!("orders.{}", ScheduleId::parse(&full).expect("an id").lane(8));
    let queues = Queues::of(&stack).await;
    // What was said of the unknown session may have taken the same lane.
    queues.purge(&queue).await;
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(join(&stack.token_of_role("ann", role), &full).await.problem(), "forbidden");
    }

    // No worker: the place is not known in time, and the wish is in the line all the same.
    for (method, wish) in [(Method::POST, "join"), (Method::DELETE, "leave")] {
        let taken = waitlist(&stack, method, &ann, &full).await;
        assert_eq!((taken.status, &taken.body), (StatusCode::ACCEPTED, &json!({ "position": null })), "{wish}");
        let message = queues.take(&queue).await;
        assert_eq!(message.properties.kind().as_ref().map(|kind| kind.as_str()), Some("waitlist.change"));
        let expected = json!({
            "schedule_id": full, "user_id": "ann", "openid": "openid-ann", "wish": wish,
            "request_id": taken.headers["x-request-id"].to_str().expect("visible"),
        });
        assert_eq!(message.json(), expected);
    }
    assert_eq!(waitlist(&stack, Method::GET, &ann, &full).await.body, json!({ "position": null }));
}

#[tokio::test]
async fn s5_3_those_who_wait_know_their_place_until_it_is_their_turn() {
    let stack = Stack::start("waitlist-story").await;
    let schedule = stack.add_schedule(1).await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|user| stack.quick_token(user));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;

    let place = async |method: Method, token: &str| -> Value {
        let answer = waitlist(&stack, method, token, &schedule).await;
        assert!(answer.status.is_success(), "{}", answer.body);
        answer.body["position"].clone()
    };
    assert_eq!(place(Method::POST, &bob).await, 1);
    assert_eq!(place(Method::POST, &cid).await, 2);
    assert_eq!(place(Method::POST, &bob).await, 1, "joining twice keeps the first place");
    assert_eq!(place(Method::DELETE, &bob).await, json!(null));
    assert_eq!(place(Method::GET, &bob).await, json!(null));
    assert_eq!(place(Method::GET, &cid).await, 1);
    assert_eq!(place(Method::POST, &bob).await, 2, "back again, at the end");

    let cancel = stack.request(Method::POST, &format!("/v1/orders/{order}/cancel")).bearer_auth(&ann);
    assert_eq!(Answer::of(cancel).await.status, StatusCode::ACCEPTED);
    let offered = until("cid has an order", async || {
        let orders = Answer::of(stack.request(Method::GET, "/v1/orders").bearer_auth(&cid)).await;
        orders.body["items"][0]["order_id"].as_str().map(str::to_owned)
    })
    .await;
    let offered = stack.until_status(&cid, &offered, "awaiting_payment").await;
    assert_eq!(offered["schedule_id"], schedule);
    assert_eq!(place(Method::GET, &cid).await, json!(null), "an offer ends the wait");
    assert_eq!(place(Method::GET, &bob).await, 1);
    stack.check_invariants().await;
}
