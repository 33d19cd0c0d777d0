//! Transactions whose caller goes away: a customer who hangs up, a step whose time is over.

use std::{future::Future as _, pin::pin, task::Poll};

use holdfast::store::{Database, Plans};
use sqlx::Row as _;
use uuid::Uuid;

use crate::stack::server_resources::{database_url, drop_database, make_database};

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
