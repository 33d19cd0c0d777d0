//! Decisions are judged under the order's lock, on what is read there: two copies of a message at once come to what one
//! comes to.

use holdfast::domain::message::{Message, OrderOverride};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::{
    overrides::stage,
    stack::{Stack, until},
    story::order_id,
};

impl Stack {
    /// Holds an order's lock, so that who wants to change it has read and judged what is there, and waits.
    async fn hold_back(&self, order: &str) -> Transaction<'static, Postgres> {
        let mut gate = self.db.begin().await.expect("a transaction");
        sqlx::query("SELECT FROM payment_orders WHERE order_id = $1 FOR NO KEY UPDATE")
            .bind(order)
            .execute(&mut *gate)
            .await
            .expect("the lock");
        gate
    }

    async fn until_waiting(&self, workers: i64) {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                        WHERE NOT l.granted AND a.datname = current_database()";
        self.until_count("they wait for the lock", waiting, workers).await;
    }

    /// Decides, and has two copies of the decision's message handled at once.
    async fn decide_twice(&mut self, order: &str, action: &str) -> String {
        self.kill("expiry");
        let (code, decided) = self.decide(order, action, &["--as", "olga", "--no-wait"]).await;
        assert_eq!(code, 0, "{decided}");
        let id = decided["override_id"].as_str().expect("an id").to_owned();
        let override_id = Uuid::parse_str(&id).expect("a UUID");
        self.lay(&Message::OrderOverride(OrderOverride { override_id, order_id: order_id(order) })).await;
        until("both copies wait", async || (self.ready_in("expiry").await >= 2).then_some(())).await;
        let gate = self.hold_back(order).await;
        self.spawn("expiry");
        self.until_waiting(2).await;
        gate.rollback().await.expect("let go");
        until("both copies are done", async || {
            let counts = crate::metrics::Counts::of_worker(self, "expiry").await;
            (counts.sum("messages_total", &[("queue", "expiry"), ("outcome", "done")]) >= 2).then_some(())
        })
        .await;
        id
    }

    async fn came_to(&self, id: &str) -> (String, String) {
        sqlx::query_as("SELECT status::text, coalesce(outcome, '') FROM order_overrides WHERE override_id = $1::uuid")
            .bind(id)
            .fetch_one(&self.db)
            .await
            .expect("an override")
    }
}

/// C2: each copy of a waiver took a free seat; the second one was nobody's for ever.
#[tokio::test]
async fn c2_a_waiver_that_is_handled_twice_at_once_takes_one_seat() {
    let mut stack = stage("judged_waive", 1_000_000).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &order).await;
    let id = stack.decide_twice(&order, "waive").await;
    stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(stack.came_to(&id).await.0, "done");
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 2, "one seat of three is taken");
    assert_eq!(stack.ready_in("expiry.dead").await, 0);
    stack.verified().await;
}

/// C2: the other decisions, each handled twice at once.
#[tokio::test]
async fn c2_a_decision_that_is_handled_twice_at_once_is_carried_out_once() {
    let mut stack = stage("judged_each", 1_000_000).await;
    let schedule = stack.add_schedule(9).await;
    for (action, order_is) in [("release", "lapsed"), ("close", "cancelled")] {
        let (ann, order) = stack.payable("ann", &schedule).await;
        let id = stack.decide_twice(&order, action).await;
        stack.until_status(&ann, &order, order_is).await;
        assert_eq!(stack.came_to(&id).await, ("done".into(), "WeChat agreed".into()), "{action}");
    }
    // A waived seat, taken back.
    let (bob, order) = stack.payable("bob", &schedule).await;
    stack.decided(&order, "waive", &["--as", "olga"]).await;
    let id = stack.decide_twice(&order, "release").await;
    stack.until_status(&bob, &order, "cancelled").await;
    assert_eq!(stack.came_to(&id).await.0, "done");
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 9);
    stack.verified().await;
}

/// C2: what came between reading and locking is told as it is, not as a payment.
#[tokio::test]
async fn c2_a_decision_that_is_overtaken_before_its_lock_changes_nothing() {
    let mut stack = stage("judged_overtaken", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    stack.kill("expiry");
    let (_, decided) = stack.decide(&order, "release", &["--as", "olga", "--no-wait"]).await;
    let id = decided["override_id"].as_str().expect("an id").to_owned();
    let mut gate = stack.hold_back(&order).await;
    stack.spawn("expiry");
    stack.until_waiting(1).await;
    // The deadline passes in the step that has the lock.
    sqlx::raw_sql(
        "WITH gone AS (UPDATE seat_reservations SET status = 'cancelled', expires_at = NULL RETURNING schedule_id, seat_no)
         INSERT INTO free_seats SELECT * FROM gone;
         UPDATE payment_orders SET status = 'expired'",
    )
    .execute(&mut *gate)
    .await
    .expect("changed");
    gate.commit().await.expect("let go");
    until("the decision is settled", async || (stack.came_to(&id).await.0 == "refused").then_some(())).await;
    assert_eq!(stack.came_to(&id).await.1, "it has no seat");
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'expired'").await, 1);
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
}
