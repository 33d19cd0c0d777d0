//! The next release migrates while this one works on: columns, an index, a table and labels of enums that this release does
//! not know make no request fail and park no message.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    books::DEAD,
    queues::Queues,
    stack::{Answer, PRICE_FEN, Stack, until},
};

/// What a release may add beside a running one.
const ADDED: &str = "
    ALTER TABLE payment_orders ADD COLUMN next_text text, ADD COLUMN next_number bigint DEFAULT 7;
    ALTER TABLE refunds ADD COLUMN next_text text;
    ALTER TABLE notifications ADD COLUMN next_text text;
    ALTER TABLE cases ADD COLUMN next_text text;
    ALTER TABLE seat_reservations ADD COLUMN next_text text;
    ALTER TABLE course_schedules ADD COLUMN next_text text;
    ALTER TABLE order_overrides ADD COLUMN next_text text;
    ALTER TABLE dead_letters ADD COLUMN next_text text;
    ALTER TABLE payment_audit_log ADD COLUMN next_text text;
    ALTER TABLE order_trace ADD COLUMN next_text text;
    ALTER TABLE book_days ADD COLUMN next_text text;
    ALTER TABLE book_differences ADD COLUMN next_text text;
    CREATE TABLE next_table (order_id text REFERENCES payment_orders, what text);
    CREATE INDEX next_index ON payment_orders (next_text) WHERE next_text IS NOT NULL";
const LABELS: [&str; 6] = [
    "ALTER TYPE notification_kind ADD VALUE 'next_kind'",
    "ALTER TYPE order_status ADD VALUE 'next_status'",
    "ALTER TYPE refund_status ADD VALUE 'next_status'",
    "ALTER TYPE case_status ADD VALUE 'next_status'",
    "ALTER TYPE override_action ADD VALUE 'next_action'",
    "ALTER TYPE notification_status ADD VALUE 'next_status'",
];

/// D2: people book, look, pay and want their money back before, while and after the next release migrates.
#[tokio::test]
async fn d2_the_next_release_migrates_while_this_one_works() {
    let stack = Stack::start("newer-release").await;
    let schedule = stack.add_schedule(60).await;
    // Every connection has prepared its statements.
    let (first, first_order) = stack.booked("first", &schedule).await;
    let looks = async |token: &str, order: &str| {
        for path in [
            "/v1/orders".to_owned(),
            format!("/v1/orders/{order}"),
            format!("/v1/orders/{order}/refunds"),
            format!("/v1/orders/{order}/notifications"),
            "/v1/schedules".to_owned(),
        ] {
            for _ in 0..4 {
                let answer = Answer::of(stack.request(Method::GET, &path).bearer_auth(token)).await;
                assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
            }
        }
    };
    looks(&first, &first_order).await;

    sqlx::raw_sql(ADDED).execute(&stack.db).await.expect("a migration");
    for label in LABELS {
        sqlx::raw_sql(label).execute(&stack.db).await.expect("a label");
    }
    // What the next release tells this customer is its own to send.
    sqlx::query("INSERT INTO notifications (order_id, kind) VALUES ($1, 'next_kind')")
        .bind(&first_order)
        .execute(&stack.db)
        .await
        .expect("a message of the next release");

    looks(&first, &first_order).await;
    for number in 0..4 {
        let (token, order) = stack.booked(&format!("later-{number}"), &schedule).await;
        looks(&token, &order).await;
    }
    let refund = stack.lay_refund(&first_order, "r1", None).await;
    stack.until_refund(&refund, "succeeded").await;
    stack.until_status(&first, &first_order, "refunded").await;
    looks(&first, &first_order).await;
    for queue in DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.check_invariants().await;
}

/// D2: an order in a state that this release does not know is left to the next release; nobody else's waits for it.
#[tokio::test]
async fn d2_an_order_in_an_unknown_state_is_neither_parked_nor_an_error_of_ours() {
    let stack = Stack::start("newer-state").await;
    let schedule = stack.add_schedule(10).await;
    let (token, order) = stack.payable("ann", &schedule).await;
    sqlx::raw_sql("ALTER TYPE order_status ADD VALUE 'next_status'").execute(&stack.db).await.expect("a label");
    sqlx::query("UPDATE payment_orders SET status = 'next_status' WHERE order_id = $1")
        .bind(&order)
        .execute(&stack.db)
        .await
        .expect("the next release's state");
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    let (other, _) = stack.booked("bob", &schedule).await;
    let answer = stack.order(&token, &order).await;
    assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.body);
    for customer in [&token, &other] {
        let list = Answer::of(stack.request(Method::GET, "/v1/orders").bearer_auth(customer)).await;
        assert_eq!(list.status, StatusCode::OK, "{}", list.body);
    }
    assert_eq!(stack.ready_in("payments.dead").await, 0);
    // A release that knows it, here this one again, takes what was left to it.
    sqlx::query("UPDATE payment_orders SET status = 'awaiting_payment' WHERE order_id = $1")
        .bind(&order)
        .execute(&stack.db)
        .await
        .expect("the state that it had");
    stack.until_status(&token, &order, "confirmed").await;
    stack.check_invariants().await;
}

/// D2: a message of a newer schema is left to a worker that can read it.
#[tokio::test]
async fn d2_a_message_of_a_newer_schema_is_not_parked() {
    let stack = Stack::start("newer-message").await;
    let queues = Queues::of(&stack).await;
    let body = json!({ "order_id": "hf00000001", "kind": "next_kind", "amount_fen": PRICE_FEN }).to_string();
    queues.put_of_schema("notifications", "notification.due", 2, body.as_bytes()).await;
    until("it waits for the next release", async || {
        let log = std::fs::read_to_string(stack.log("notifications")).ok()?;
        log.contains("left a message to a newer release").then_some(())
    })
    .await;
    assert_eq!(stack.ready_in("notifications.dead").await, 0);
}
