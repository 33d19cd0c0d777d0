//! Retention of the audit log: whole months go, and of each of their orders the last link of the chain stays, so that
//! what is younger can still be proved.

use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::{Database, Step, StoreError};

/// A month of the audit log whose time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Month {
    pub partition: String,
    pub rows: i64,
    pub orders: i64,
    /// Why it stays; `None`: dropped, or would be.
    pub kept: Option<Kept>,
}

/// Why a month stays beyond its time, with the number of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    OpenCases(i64),
    /// They can still be paid, or money of theirs is on its way back or owed.
    Unfinished(i64),
}

/// Whether we are the audit log's owner, who alone can drop a month of it.
pub async fn is_owner(db: &Database) -> Result<bool, StoreError> {
    let owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'payment_audit_log'::regclass";
    Ok(sqlx::query_scalar(owner).fetch_one(db.pool()).await?)
}

/// Drops the months that ended more than `keep_months` ago, the oldest first, each in a transaction of its own.
pub async fn prune(db: &Database, keep_months: u16, dry_run: bool) -> Result<Vec<Month>, StoreError> {
    let partitions: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          WHERE i.inhparent = 'payment_audit_log'::regclass AND c.relname ~ '^payment_audit_log_[0-9]{4}_[0-9]{2}$'
            AND to_date(right(c.relname, 7), 'YYYY_MM')
                < date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => $1)
          ORDER BY c.relname",
    )
    .bind(i32::from(keep_months))
    .fetch_all(db.pool())
    .await?;
    let mut months = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let mut step = db.begin("audit.prune").await?;
        if !take(&mut step, &partition).await? {
            continue;
        }
        let month = look(&mut step, partition).await?;
        if month.kept.is_none() && !dry_run {
            drop_month(&mut step, &month.partition).await?;
            step.commit().await?;
            tracing::info!(partition = month.partition, rows = month.rows, "a month of the audit log was dropped");
        }
        months.push(month);
    }
    Ok(months)
}

/// Whether the month is still there, and ours to drop until the step ends: a command and `reconcile` may prune at once.
async fn take(step: &mut Step<'_>, partition: &str) -> Result<bool, StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('holdfast retention'))").execute(&mut *step.transaction).await?;
    Ok(sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(partition)
        .fetch_one(&mut *step.transaction)
        .await?)
}

async fn look(step: &mut Step<'_>, partition: String) -> Result<Month, StoreError> {
    // The name is one of the catalogue's own, of a form that needs no quotes.
    let (rows, orders, with_cases, unfinished): (i64, i64, i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "WITH old AS (SELECT order_id, count(*) AS rows FROM {partition} GROUP BY order_id)
         SELECT coalesce(sum(rows), 0)::bigint, count(*),
                count(*) FILTER (WHERE EXISTS (SELECT FROM cases c WHERE c.order_id = old.order_id AND c.status = 'open')),
                count(*) FILTER (WHERE o.status IN ('submitted', 'held', 'awaiting_payment', 'lapsed', 'refunding')
                    OR EXISTS (SELECT FROM refunds r
                                WHERE r.order_id = old.order_id AND r.status IN ('requested', 'processing', 'abnormal'))
                    OR EXISTS (SELECT FROM order_overrides v
                                WHERE v.order_id = old.order_id AND v.status IN ('proposed', 'approved')))
           FROM old LEFT JOIN payment_orders o USING (order_id)"
    )))
    .fetch_one(&mut *step.transaction)
    .await?;
    let kept = match (with_cases, unfinished) {
        (0, 0) => None,
        (0, orders) => Some(Kept::Unfinished(orders)),
        (orders, _) => Some(Kept::OpenCases(orders)),
    };
    Ok(Month { partition, rows, orders, kept })
}

async fn drop_month(step: &mut Step<'_>, partition: &str) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO audit_log_pruned (order_id, version, to_status, hash)
         SELECT DISTINCT ON (order_id) order_id, version, to_status, hash FROM {partition} ORDER BY order_id, version DESC
         ON CONFLICT (order_id) DO UPDATE
            SET version = excluded.version, to_status = excluded.to_status, hash = excluded.hash, pruned_at = now()
          WHERE audit_log_pruned.version < excluded.version"
    )))
    .execute(&mut *step.transaction)
    .await?;
    // Dropping needs the whole log for a moment: writers must not wait long behind a reader that this waits for.
    sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(&mut *step.transaction).await?;
    sqlx::query(AssertSqlSafe(format!("DROP TABLE {partition}"))).execute(&mut *step.transaction).await?;
    Ok(())
}
