//! `cases`: money or a fact that needs a person. The same fact opens one case, however often it is seen.

use serde_json::Value;
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{SPARE_ROWS, Step, StoreError, readable};
use crate::domain::{
    case::{CaseDocument, CaseKind, CaseStatus, Earlier, Returns, UNKNOWN_KIND},
    ids::{OrderId, RefundId},
    money::Fen,
};

/// Opens a case, unless it is open. `subject` is WeChat's or our number of the fact. One that was closed opens again when
/// its cause returns; a fact that merely is seen again stays as a person left it.
pub async fn open(
    step: &mut Step<'_>,
    kind: CaseKind,
    subject: &str,
    order: Option<&OrderId>,
    money: Fen,
    details: Value,
) -> Result<(), StoreError> {
    let opened = sqlx::query(
        "INSERT INTO cases (case_id, kind, subject, order_id, money_fen, details, opened_at)
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
         ON CONFLICT (kind, subject) DO UPDATE
            SET status = 'open', opened_at = excluded.opened_at, closed_at = NULL, closed_by = NULL, resolution = NULL,
                order_id = coalesce(excluded.order_id, cases.order_id), money_fen = excluded.money_fen,
                details = excluded.details,
                earlier = cases.earlier || jsonb_build_array(jsonb_build_object(
                    'opened_at', cases.opened_at, 'closed_at', cases.closed_at, 'closed_by', cases.closed_by,
                    'resolution', cases.resolution))
          WHERE cases.status = 'closed'
            AND ($7 = 'always' OR $7 = 'settled' AND cases.closed_by NOT LIKE 'operator:%'
                 OR (cases.money_fen, cases.details) IS DISTINCT FROM (excluded.money_fen, excluded.details))",
    )
    .bind(Uuid::now_v7())
    .bind(kind.as_str())
    .bind(subject)
    .bind(order)
    .bind(money)
    .bind(Json(details))
    .bind(match kind.returns() {
        Returns::Always => "always",
        Returns::AfterItWasSettled => "settled",
        Returns::OnlyChanged => "changed",
    })
    .execute(&mut *step.transaction)
    .await?
    .rows_affected();
    if opened > 0 {
        let kind = kind.as_str();
        metrics::counter!("cases_opened_total", "kind" => kind).increment(1);
        tracing::error!(kind, subject, money_fen = money.0, "a case was opened");
    }
    Ok(())
}

/// Closes one case, if it is open, because the fact that opened it is over.
pub async fn close_one(
    step: &mut Step<'_>,
    kind: &str,
    subject: &str,
    by: &str,
    resolution: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE cases SET status = 'closed', closed_at = now(), closed_by = $3, resolution = $4
          WHERE kind = $1 AND subject = $2 AND status = 'open'",
    )
    .bind(kind)
    .bind(subject)
    .bind(by)
    .bind(resolution)
    .execute(&mut *step.transaction)
    .await?;
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

/// A case with its age and the refund that closing it ends.
macro_rules! columns {
    () => {
        "SELECT case_id, kind, subject, order_id, money_fen, details, status, opened_at, closed_at, closed_by, resolution,
                earlier, extract(epoch FROM coalesce(closed_at, now()) - opened_at)::bigint AS age_seconds,
                (SELECT r.refund_id FROM refunds r
                  WHERE cases.status = 'open' AND r.refund_id = cases.subject
                    AND r.status IN ('requested', 'processing', 'abnormal')) AS owed_refund_id
           FROM cases"
    };
}

#[derive(FromRow)]
struct Row {
    case_id: Uuid,
    kind: String,
    subject: String,
    order_id: Option<OrderId>,
    money_fen: Fen,
    details: Json<Value>,
    status: CaseStatus,
    opened_at: OffsetDateTime,
    age_seconds: i64,
    closed_at: Option<OffsetDateTime>,
    closed_by: Option<String>,
    resolution: Option<String>,
    earlier: Json<Vec<Earlier>>,
    owed_refund_id: Option<RefundId>,
}

impl From<Row> for CaseDocument {
    fn from(row: Row) -> Self {
        let suggestion = CaseKind::parse(&row.kind).map_or(UNKNOWN_KIND, CaseKind::suggestion);
        Self {
            suggestion: suggestion.to_owned(),
            case_id: row.case_id,
            kind: row.kind,
            subject: row.subject,
            order_id: row.order_id,
            money_fen: row.money_fen,
            details: row.details.0,
            status: row.status,
            opened_at: row.opened_at,
            age_seconds: row.age_seconds,
            closed_at: row.closed_at,
            closed_by: row.closed_by,
            resolution: row.resolution,
            earlier: row.earlier.0,
            owed_refund_id: row.owed_refund_id,
        }
    }
}

/// What a list of cases is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct CaseFilter {
    pub status: Option<CaseStatus>,
    pub kind: Option<String>,
    pub order_id: Option<OrderId>,
    /// Where the page begins: after this case.
    pub after: Option<(OffsetDateTime, Uuid)>,
}

/// At most `limit` cases, the oldest first.
pub async fn list(db: impl PgExecutor<'_>, filter: &CaseFilter, limit: i64) -> Result<Vec<CaseDocument>, StoreError> {
    let rows = sqlx::query(concat!(
        columns!(),
        "
          WHERE ($1::case_status IS NULL OR status = $1) AND ($2::text IS NULL OR kind = $2)
            AND ($3::text IS NULL OR order_id = $3)
            AND ($4::timestamptz IS NULL OR (opened_at, case_id) > ($4, $5))
          ORDER BY opened_at, case_id LIMIT $6"
    ))
    .bind(filter.status)
    .bind(&filter.kind)
    .bind(&filter.order_id)
    .bind(filter.after.map(|(opened_at, _)| opened_at))
    .bind(filter.after.map(|(_, id)| id))
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    Ok(readable::<Row>("cases", &rows, limit).into_iter().map(CaseDocument::from).collect())
}

pub async fn find(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<CaseDocument>, StoreError> {
    let row: Option<Row> =
        sqlx::query_as(concat!(columns!(), " WHERE case_id = $1")).bind(id).fetch_optional(db).await?;
    Ok(row.map(CaseDocument::from))
}

/// What a case is about: its subject and its order.
pub(super) async fn subject(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<(String, Option<OrderId>)>, StoreError> {
    Ok(sqlx::query_as("SELECT subject, order_id FROM cases WHERE case_id = $1").bind(id).fetch_optional(db).await?)
}

/// Locks a case that is open; whether it is.
pub(super) async fn lock_open(step: &mut Step<'_>, id: Uuid) -> Result<bool, StoreError> {
    let status: Option<CaseStatus> = sqlx::query_scalar("SELECT status FROM cases WHERE case_id = $1 FOR UPDATE")
        .bind(id)
        .fetch_optional(&mut *step.transaction)
        .await?;
    Ok(status == Some(CaseStatus::Open))
}

/// Closes this case, if it is open.
pub(super) async fn close_by_id(step: &mut Step<'_>, id: Uuid, by: &str, resolution: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE cases SET status = 'closed', closed_at = now(), closed_by = $2, resolution = $3
          WHERE case_id = $1 AND status = 'open'",
    )
    .bind(id)
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
