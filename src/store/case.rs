//! `cases`: money or a fact that needs a person. The same fact opens one case, however often it is seen.

use serde_json::Value;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{Step, StoreError};
use crate::domain::{ids::OrderId, money::Fen};

/// Opens a case, unless it was opened before. `subject` is WeChat's or our number of the fact.
pub async fn open(
    step: &mut Step<'_>,
    kind: &'static str,
    subject: &str,
    order: Option<&OrderId>,
    money: Fen,
    details: Value,
) -> Result<(), StoreError> {
    let opened = sqlx::query(
        "INSERT INTO cases (case_id, kind, subject, order_id, money_fen, details) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, subject) DO NOTHING",
    )
    .bind(Uuid::now_v7())
    .bind(kind)
    .bind(subject)
    .bind(order)
    .bind(money)
    .bind(Json(details))
    .execute(&mut *step.transaction)
    .await?
    .rows_affected();
    if opened > 0 {
        metrics::counter!("cases_opened_total", "kind" => kind).increment(1);
        tracing::error!(kind, subject, money_fen = money.0, "a case was opened");
    }
    Ok(())
}

/// Closes the open cases about a subject, because the fact that opened them is over.
pub async fn close(step: &mut Step<'_>, subject: &str, by: &str, resolution: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE cases SET status = 'closed', closed_at = now(), closed_by = $2, resolution = $3
          WHERE subject = $1 AND status = 'open'",
    )
    .bind(subject)
    .bind(by)
    .bind(resolution)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// What waits for a person: how many cases, and the money they are about.
pub async fn open_total(db: impl PgExecutor<'_>) -> Result<(i64, Fen), StoreError> {
    Ok(sqlx::query_as("SELECT count(*), coalesce(sum(money_fen), 0)::bigint FROM cases WHERE status = 'open'")
        .fetch_one(db)
        .await?)
}
