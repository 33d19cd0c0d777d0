//! Transactions whose caller goes away (a customer who hangs up, a step whose time is over), and those that another one
//! comes in the way of.

use std::{future::Future as _, pin::pin, task::Poll};

use holdfast::store::{Database, Plans};
use sqlx::Row as _;
use uuid::Uuid;

use crate::{
    stack::{
        Choice, Stack,
        server_resources::{database_url, drop_database, make_database},
        until,
    },
    story::deadlines,
};

#[tokio::test]
async fn a_beginning_that_is_given_up_leaves_no_transaction_open() {
    let name = format!("hf_{}", Uuid::now_v7().simple());
    make_database(&name).await;
    let db = Database::open(&database_url(&name).into(), 1, Plans::Chosen).expect("a pool");
    db.ping().await.expect("a connection");
    // Given up after each number of looks, so that the answer to BEGIN is missed at every moment.
    for looks in 0..200 {
        let mut beginning = pin!(db.begin("test"));
        for _ in 0..looks {
            if std::future::poll_fn(|context| Poll::Ready(beginning.as_mut().poll(context))).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // A simple query is a transaction of its own: it begins when it arrives.
    let row = sqlx::raw_sql("SELECT now() = statement_timestamp()").fetch_one(db.pool()).await.expect("an answer");
    assert!(row.get::<bool, _>(0), "the connection is inside a transaction that nobody knows of");
    db.pool().close().await;
    drop_database(&name).await;
}

/// PostgreSQL asks one of two transactions to begin again: here on purpose, by a stricter isolation than ours.
#[tokio::test]
async fn a_step_that_another_one_came_in_the_way_of_is_done_again_at_once() {
    // Nobody but the cancellation works on the order.
    let settings = [deadlines(600, 1200), vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())]].concat();
    let roles = vec!["api", "seats", "prepay"];
    let mut stack = Stack::start_with("conflict", Choice { settings, roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let stricter = format!("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'", stack.name);
    sqlx::query(sqlx::AssertSqlSafe(stricter)).execute(&stack.db).await.expect("stricter");
    stack.spawn("expiry");

    let mut other = stack.db.begin().await.expect("a transaction");
    let touch = "UPDATE payment_orders SET swept_at = now()";
    sqlx::query(touch).execute(&mut *other).await.expect("touched");
    stack.lay_cancel("ann", &order).await;
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE NOT l.granted AND a.datname = current_database()";
    until("the worker waits for it", async || (stack.count(waiting).await == 1).then_some(())).await;
    other.commit().await.expect("committed");
    stack.until_status(&ann, &order, "cancelled").await;
    let log = std::fs::read_to_string(stack.log("expiry")).expect("a log");
    assert!(log.contains("trying the batch again"), "it met the other one");
    assert_eq!(stack.ready_in("expiry.dead").await, 0);
    stack.check_money().await;
}
