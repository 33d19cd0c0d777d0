//! `order_overrides`: operators' decisions about orders, from the proposal to what came of them.

use sqlx::{FromRow, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Database, Step, StoreError,
    order::{self, Due},
};
use crate::{
    crash,
    domain::{
        ids::OrderId,
        money::Fen,
        order::Status,
        overrides::{OverrideAction, OverrideDocument, OverrideStatus, Proposal, Standing, WAIVED},
    },
};

#[derive(FromRow)]
struct Row {
    override_id: Uuid,
    order_id: OrderId,
    action: OverrideAction,
    amount_fen: Option<Fen>,
    receipt: Option<String>,
    reason: String,
    money_fen: Fen,
    status: OverrideStatus,
    proposed_by: String,
    proposed_at: OffsetDateTime,
    decided_by: Option<String>,
    decided_at: Option<OffsetDateTime>,
    outcome: Option<String>,
    settled_at: Option<OffsetDateTime>,
}

impl From<Row> for OverrideDocument {
    fn from(row: Row) -> Self {
        Self {
            undo: row.action.undo().to_owned(),
            override_id: row.override_id,
            order_id: row.order_id,
            action: row.action,
            amount_fen: row.amount_fen,
            receipt: row.receipt,
            reason: row.reason,
            money_fen: row.money_fen,
            status: row.status,
            proposed_by: row.proposed_by,
            proposed_at: row.proposed_at,
            decided_by: row.decided_by,
            decided_at: row.decided_at,
            outcome: row.outcome,
            settled_at: row.settled_at,
        }
    }
}

/// What decides whether an override of this order makes sense now; `None` when it is not in the books.
pub async fn standing(db: impl PgExecutor<'_>, order: &OrderId) -> Result<Option<Standing>, StoreError> {
    type Row = (Status, Fen, Fen, Fen, Option<String>, Fen);
    let row: Option<Row> = sqlx::query_as(
        "SELECT o.status, o.amount_fen, o.paid_fen, o.paid_fen - o.refund_promised_fen, o.transaction_id,
                coalesce((SELECT sum(t.total_fen) FROM payment_transactions t JOIN cases c ON c.subject = t.transaction_id
                           WHERE t.order_id = o.order_id AND t.status = 'mismatched' AND c.status = 'open'), 0)::bigint
           FROM payment_orders o WHERE order_id = $1",
    )
    .bind(order)
    .fetch_optional(db)
    .await?;
    Ok(row.map(|(status, price_fen, paid_fen, left_fen, transaction_id, set_aside_fen)| Standing {
        status,
        price_fen,
        paid_fen,
        left_fen,
        set_aside_fen,
        is_waived: transaction_id.is_some_and(|id| id.starts_with(WAIVED)),
    }))
}

/// The order that an override is about, which its foreign key says is there.
pub async fn subject(db: &PgPool, document: &OverrideDocument) -> Result<(Due, Standing), StoreError> {
    let due = order::due(db, &document.order_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    let standing = standing(db, &document.order_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok((due, standing))
}

/// Takes a proposal into the books; approved at once when one person is enough. `false`: this very one, or another
/// one about the order, is there already.
pub async fn propose(
    db: &Database,
    proposal: &Proposal,
    money: Fen,
    needs_second_person: bool,
) -> Result<bool, StoreError> {
    let status = if needs_second_person { OverrideStatus::Proposed } else { OverrideStatus::Approved };
    let written = sqlx::query(
        "INSERT INTO order_overrides
                (override_id, order_id, action, amount_fen, receipt, reason, money_fen, status, request_id, proposed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(proposal.override_id)
    .bind(&proposal.order_id)
    .bind(proposal.action)
    .bind(proposal.amount_fen)
    .bind(&proposal.receipt)
    .bind(&proposal.reason)
    .bind(money)
    .bind(status)
    .bind(&proposal.request_id)
    .bind(&proposal.operator);
    let written = crash::around("commit", "override.propose", written.execute(db.pool())).await?;
    Ok(written.rows_affected() > 0)
}

/// A second person agrees to, or anybody withdraws, what is still proposed; says whether it was. The database keeps
/// the two persons apart.
pub async fn decide(db: &Database, id: Uuid, to: OverrideStatus, by: &str) -> Result<bool, StoreError> {
    let decided = sqlx::query(
        "UPDATE order_overrides SET status = $2, decided_by = $3, decided_at = now()
          WHERE override_id = $1 AND status = 'proposed' AND ($2 = 'withdrawn' OR proposed_by <> $3)",
    )
    .bind(id)
    .bind(to)
    .bind(by);
    let decided = crash::around("commit", "override.decide", decided.execute(db.pool())).await?;
    Ok(decided.rows_affected() > 0)
}

/// What came of an approved one: in the transaction of the deed, where there is one.
pub async fn settle(step: &mut Step<'_>, id: Uuid, to: OverrideStatus, outcome: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE order_overrides SET status = $2, outcome = $3, settled_at = now()
          WHERE override_id = $1 AND status = 'approved'",
    )
    .bind(id)
    .bind(to)
    .bind(outcome)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct OverrideFilter {
    pub status: Option<OverrideStatus>,
    pub order_id: Option<OrderId>,
    /// Where the page begins: after this one.
    pub after: Option<(OffsetDateTime, Uuid)>,
}

/// At most `limit` overrides, the newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &OverrideFilter,
    limit: i64,
) -> Result<Vec<OverrideDocument>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT override_id, order_id, action, amount_fen, receipt, reason, money_fen, status, proposed_by, proposed_at,
                decided_by, decided_at, outcome, settled_at
           FROM order_overrides
          WHERE ($1::override_status IS NULL OR status = $1) AND ($2::text IS NULL OR order_id = $2)
            AND ($3::timestamptz IS NULL OR (proposed_at, override_id) < ($3, $4))
          ORDER BY proposed_at DESC, override_id DESC LIMIT $5",
    )
    .bind(filter.status)
    .bind(&filter.order_id)
    .bind(filter.after.map(|(proposed_at, _)| proposed_at))
    .bind(filter.after.map(|(_, id)| id))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(OverrideDocument::from).collect())
}

pub async fn find(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<OverrideDocument>, StoreError> {
    let row: Option<Row> =
        sqlx::query_as(
        "SELECT override_id, order_id, action, amount_fen, receipt, reason, money_fen, status, proposed_by, proposed_at,
                decided_by, decided_at, outcome, settled_at
           FROM order_overrides WHERE override_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(OverrideDocument::from))
}
