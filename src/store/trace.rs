//! `order_trace`: what happened around orders, written in sets and read by order.

use serde_json::Value;
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;

use super::{Database, StoreError};
use crate::domain::{
    ids::OrderId,
    timeline::{EntryKind, Trace},
};

/// Writes a set in one round trip, without waiting for the disk: the server may lose the last of it when it crashes.
pub async fn write(db: &Database, traces: &[Trace]) -> Result<(), StoreError> {
    sqlx::query(
        "WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
         INSERT INTO order_trace (order_id, at, kind, what, outcome, who, request_id, took_ms, details)
         SELECT t.order_id, t.at, t.kind, t.what, t.outcome, t.who, t.request_id, t.took_ms, t.details
           FROM unhurried,
                unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                       $8::int[], $9::jsonb[])
             AS t(order_id, at, kind, what, outcome, who, request_id, took_ms, details)",
    )
    .bind(traces.iter().map(|trace| trace.order_id.as_str()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.at).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.kind.as_str()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.what.as_str()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.outcome.as_str()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.who.as_deref()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.request_id.as_deref()).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.took_ms).collect::<Vec<_>>())
    .bind(traces.iter().map(|trace| trace.details.clone().map(Json)).collect::<Vec<_>>())
    .execute(db.pool())
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct Row {
    order_id: String,
    at: OffsetDateTime,
    kind: String,
    what: String,
    outcome: String,
    who: Option<String>,
    request_id: Option<String>,
    took_ms: Option<i32>,
    details: Option<Json<Value>>,
}

/// At most `limit` rows of an order's trace, the newest ones, oldest first. A kind that this release does not know is
/// left out.
pub(super) async fn of_order(db: impl PgExecutor<'_>, order: &OrderId, limit: i64) -> Result<Vec<Trace>, StoreError> {
    let mut rows: Vec<Row> = sqlx::query_as(
        "SELECT order_id, at, kind, what, outcome, who, request_id, took_ms, details
           FROM order_trace WHERE order_id = $1 ORDER BY at DESC LIMIT $2",
    )
    .bind(order)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.reverse();
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Trace {
                kind: EntryKind::ALL.into_iter().find(|kind| kind.as_str() == row.kind)?,
                order_id: row.order_id,
                at: row.at,
                what: row.what,
                outcome: row.outcome,
                who: row.who,
                request_id: row.request_id,
                took_ms: row.took_ms,
                details: row.details.map(|Json(details)| details),
            })
        })
        .collect())
}
