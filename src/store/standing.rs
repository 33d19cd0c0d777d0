//! What is open in the books at this moment, counted: what is overdue, which refunds run, which cases wait, and how
//! much money each is about. For gauges and the console; the rows themselves are found by [`super::verify`].

use sqlx::{AssertSqlSafe, FromRow};
use time::OffsetDateTime;

use super::{
    Database, StoreError,
    sweep::{Intent, Pass},
};

/// Open things of one kind.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Standing {
    /// `overdue`, `refunds` or `cases`.
    pub what: String,
    /// An [`Intent`]'s name, a refund's status, a case's kind.
    pub kind: String,
    pub count: i64,
    /// Fen that they are about; 0 for what is overdue.
    pub money_fen: i64,
    /// When the oldest of them began to wait.
    pub oldest: Option<OffsetDateTime>,
}

/// Everything that is open, by kind. A kind of refund or case of which there is none is left out.
pub async fn standing(db: &Database, pass: &Pass) -> Result<Vec<Standing>, StoreError> {
    // Put together from constants of this program and nothing else.
    let mut query: String = Intent::ALL.map(overdue).join(" UNION ALL ");
    query += "
        UNION ALL
        SELECT 'refunds', status::text, count(*), sum(amount_fen)::bigint, min(created_at)
          FROM refunds WHERE status IN ('requested', 'processing', 'abnormal') GROUP BY status
        UNION ALL
        SELECT 'cases', kind, count(*), sum(money_fen)::bigint, min(opened_at)
          FROM cases WHERE status = 'open' GROUP BY kind";
    Ok(sqlx::query_as(AssertSqlSafe(query)).bind(pass.now).bind(pass.grace).fetch_all(db.pool()).await?)
}

fn overdue(intent: Intent) -> String {
    let source = intent.source();
    format!(
        "SELECT 'overdue' AS what, '{}' AS kind, count(*) AS count, 0::bigint AS money_fen, min(t.{since}) AS oldest
           FROM {} t WHERE {} AND t.{since} < $1 - $2",
        intent.as_str(),
        source.table,
        source.is_open,
        since = source.since,
    )
}
