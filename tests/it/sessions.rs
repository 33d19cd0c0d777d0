//! What can be booked: the list of sessions and the seats of one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, Choice, Stack};

async fn get(stack: &Stack, token: &str, path: &str) -> Answer {
    Answer::of(stack.request(Method::GET, path).bearer_auth(token)).await
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|session| session["schedule_id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn s3_1_sessions_are_listed_soonest_first_narrowed_and_in_pages() {
    let stack = Stack::start_with("sessions-list", Choice { roles: vec!["api"], ..Choice::default() }).await;
    // A programme of two a day for a month; the database makes it in one go.
    sqlx::raw_sql(
        "INSERT INTO courses VALUES ('tea', '茶道'), ('ink', '书法');
         INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity)
         SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'tea' ELSE 'ink' END,
                timestamptz '2030-01-01T10:00:00Z' + (n / 2) * interval '1 day', 8800, 3
           FROM generate_series(0, 59) n;
         INSERT INTO free_seats SELECT schedule_id, seat FROM course_schedules, generate_series(1, 2) seat",
    )
    .execute(&stack.db)
    .await
    .expect("a programme");
    let ann = stack.quick_token("ann");
    let first = get(&stack, &ann, "/v1/schedules").await.body;
    let cursor = first["next"].as_str().expect("there is more").to_owned();
    let second = get(&stack, &ann, &format!("/v1/schedules?cursor={cursor}")).await.body;
    let listed = [ids(&first), ids(&second)].concat();
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT schedule_id::text FROM course_schedules ORDER BY starts_at, schedule_id")
            .fetch_all(&stack.db)
            .await
            .expect("the sessions");
    assert_eq!(listed, stored);
    assert_eq!((ids(&first).len(), &second["next"]), (50, &Value::Null));
    let session = &first["items"][0];
    assert_eq!(session["starts_at"], "2030-01-01T10:00:00Z");
    assert_eq!(
        (&session["price_fen"], &session["capacity"], &session["available"], &session["status"]),
        (&json!(8800), &json!(3), &json!(2), &json!("open"))
    );

    let narrowed = "/v1/schedules?course_id=tea&from=2030-01-02T10:00:00Z&to=2030-01-04T10:00:00Z";
    let page = get(&stack, &ann, narrowed).await.body;
    let moments: Vec<&str> =
        page["items"].as_array().expect("items").iter().filter_map(|item| item["starts_at"].as_str()).collect();
    assert_eq!(moments, ["2030-01-02T10:00:00Z", "2030-01-03T10:00:00Z"], "inclusive below, exclusive above");
    assert!(page["items"].as_array().expect("items").iter().all(|item| item["course"] == "茶道"));
    let east = get(&stack, &ann, "/v1/schedules?course_id=ink&from=2030-01-30T18:00:00%2B08:00").await.body;
    assert_eq!(ids(&east).len(), 1, "a time in another zone is the same moment");

    let ancient = URL_SAFE_NO_PAD.encode(format!("-300000000000000000000 {}", stored[0]));
    for query in ["course_id=%00".to_owned(), "course_id=%ff".to_owned(), format!("cursor={ancient}")] {
        let odd = get(&stack, &ann, &format!("/v1/schedules?{query}")).await;
        assert_eq!((odd.status, odd.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"), "{query}");
    }
    let wrong = get(&stack, &ann, "/v1/schedules?from=tomorrow&to=&cursor=x&seats=3").await;
    assert_eq!((wrong.status, wrong.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"));
    assert_eq!(wrong.body["errors"].as_array().map(Vec::len), Some(4), "{}", wrong.body);
    assert_eq!(Answer::of(stack.request(Method::GET, "/v1/schedules")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn s3_1_availability_is_right_at_once_after_a_hold_and_a_confirmation() {
    let stack = Stack::start("sessions-availability").await;
    let schedule = stack.add_schedule(3).await;
    let ann = stack.quick_token("ann");
    let path = format!("/v1/schedules/{schedule}/availability");
    let picture = async || {
        // Twice: cold, then from the cache, which must not be older than what the customer was told.
        let (cold, warm) = (get(&stack, &ann, &path).await.body, get(&stack, &ann, &path).await.body);
        assert_eq!(cold["seats_free"], warm["seats_free"]);
        json!([warm["capacity"], warm["available"], warm["held"], warm["confirmed"], warm["seats_free"]])
    };
    assert_eq!(picture().await, json!([3, 3, 0, 0, [1, 2, 3]]));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(picture().await, json!([3, 2, 1, 0, [2, 3]]));
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(picture().await, json!([3, 2, 0, 1, [2, 3]]));
    let listed = get(&stack, &ann, "/v1/schedules").await.body;
    assert_eq!(listed["items"][0]["available"], 2);

    for id in ["x", "00000000-0000-0000-0000-000000000000"] {
        let unknown = get(&stack, &ann, &format!("/v1/schedules/{id}/availability")).await;
        assert_eq!((unknown.status, unknown.problem()), (StatusCode::NOT_FOUND, "no-such-schedule"));
    }
    stack.check_invariants().await;
}
