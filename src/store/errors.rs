//! What went wrong lately: messages that were retried or parked, by class, and WeChat's answers that settled nothing,
//! by code. Counted from the traces of orders and the catalogue of dead letters.

use sqlx::{FromRow, PgExecutor};
use time::{Duration, OffsetDateTime};

use super::StoreError;

/// How often one thing went wrong within one stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ErrorCount {
    /// `retried`, `parked` or `wechat`.
    pub source: String,
    /// An error's class; WeChat's code, or what its answer was where it had none.
    pub name: String,
    /// Which stretch, counted from 0.
    pub stretch: i64,
    pub count: i64,
}

/// Errors since `from`, in stretches of `each`.
pub async fn over_time(
    db: impl PgExecutor<'_>,
    from: OffsetDateTime,
    each: Duration,
) -> Result<Vec<ErrorCount>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT source, name, floor(extract(epoch FROM at - $1) / $2)::bigint AS stretch, count(*) AS count FROM (
             SELECT at,
                    CASE kind WHEN 'message' THEN outcome ELSE 'wechat' END AS source,
                    coalesce(CASE kind WHEN 'message' THEN details ->> 'class' ELSE details ->> 'code' END, outcome) AS name
               FROM order_trace
              WHERE at >= $1 AND (kind = 'message' AND outcome IN ('retried', 'parked')
                                  OR kind = 'wechat' AND outcome <> 'ok')
              UNION ALL
             -- What could not be read, or killed its worker, left no trace at an order.
             SELECT failed_at, 'parked', error_class FROM dead_letters
              WHERE failed_at >= $1 AND error_class IN ('unreadable', 'delivery_limit', 'unlabelled')
                AND state IN ('parked', 'replayed', 'discarded', 'gone')) wrong
          GROUP BY source, name, stretch
          ORDER BY source, name, stretch",
    )
    .bind(from)
    .bind(each.whole_seconds())
    .fetch_all(db)
    .await?)
}
