//! `order_overrides`: operators' decisions about orders, from the proposal to what came of them.

use std::collections::HashSet;

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Database, SPARE_ROWS, Step, StoreError,
    order::{self, Due},
    readable,
};
use crate::{
    crash,
    domain::{
        ids::{OrderId, RefundId},
        message::RefundRequested,
        money::Fen,
        order::Status,
        overrides::{
            OverrideAction, OverrideDocument, OverrideStatus, Proposal, Standing, WAIVED, judge, override_of_refund,
        },
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

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposed {
    Written,
    /// This very one, or another one about the order, is there already.
    Known,
    NoSuchOrder,
    NotPossible(&'static str),
}

/// Judges a proposal under the order's lock and takes it into the books; approved at once when one person is enough for
/// all money that operators move for the order, this included.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn propose(step: &mut Step<'_>, proposal: &Proposal, second_person: Fen) -> Result<Proposed, StoreError> {
    if !lock_order(step, &proposal.order_id).await? {
        return Ok(Proposed::NoSuchOrder);
    }
    let standing = standing(&mut *step.transaction, &proposal.order_id).await?;
    let Some(standing) = standing else { return Ok(Proposed::NoSuchOrder) };
    let money = match judge(proposal.action, proposal.amount_fen, standing) {
        Ok(money) => money,
        Err(why) => return Ok(Proposed::NotPossible(why)),
    };
    let needs_second_person = if proposal.action.moves_money() {
        needs_second_person(step, &proposal.order_id, money, second_person).await?
    } else {
        money > second_person
    };
    let status = if needs_second_person { OverrideStatus::Proposed } else { OverrideStatus::Approved };
    Ok(if write(step, proposal, money, status).await? { Proposed::Written } else { Proposed::Known })
}

/// The order's lock, also for a role that may not change orders.
async fn lock_order(step: &mut Step<'_>, order: &OrderId) -> Result<bool, StoreError> {
    let locked = sqlx::query("SELECT FROM payment_orders WHERE order_id = $1 FOR UPDATE").bind(order);
    Ok(locked.execute(&mut *step.transaction).await?.rows_affected() > 0)
}

async fn write(
    step: &mut Step<'_>,
    proposal: &Proposal,
    money: Fen,
    status: OverrideStatus,
) -> Result<bool, StoreError> {
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
    .bind(&proposal.operator)
    .execute(&mut *step.transaction)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// The judge of all money that operators move: whether this sum, with what they have moved or want to move for the order
/// before, is more than one person decides. The order is locked.
pub async fn needs_second_person(
    step: &mut Step<'_>,
    order: &OrderId,
    money: Fen,
    second_person: Fen,
) -> Result<bool, StoreError> {
    let moved = moved(&mut step.transaction, order).await?;
    // A sum that no number can hold is above every limit.
    Ok(moved.checked_add(money).is_none_or(|sum| sum > second_person))
}

/// What operators have moved for an order, decided to move or proposed: by overrides, and by refunds that no override
/// asked for.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn moved(db: &mut PgConnection, order: &OrderId) -> Result<Fen, StoreError> {
    let decided: Vec<(Uuid, OverrideAction, Fen)> = sqlx::query_as(
        "SELECT override_id, action, money_fen FROM order_overrides
          WHERE order_id = $1 AND status IN ('proposed', 'approved', 'done')",
    )
    .bind(order)
    .fetch_all(&mut *db)
    .await?;
    let refunded: Vec<(RefundId, Fen)> = sqlx::query_as(
        "SELECT refund_id, amount_fen FROM refunds
          WHERE order_id = $1 AND requested_by LIKE 'operator:%' AND replaces IS NULL
            AND status::text NOT IN ('refused', 'not_owed')",
    )
    .bind(order)
    .fetch_all(&mut *db)
    .await?;
    let of_overrides: HashSet<RefundId> = decided.iter().map(|(id, ..)| RefundId::of_override(order, *id)).collect();
    let by_override = decided.iter().filter(|(_, action, _)| action.moves_money()).map(|(.., fen)| *fen);
    let by_refund = refunded.iter().filter(|(id, _)| !of_overrides.contains(id)).map(|(_, fen)| *fen);
    let sum = by_override.chain(by_refund).try_fold(Fen::ZERO, Fen::checked_add);
    Ok(sum.unwrap_or(Fen(i64::MAX)))
}

/// What a refund would be judged by: its sum with all that operators moved for the order before. `None` when the order is
/// not in the books. Read without a lock: the judge decides when it is proposed or carried out.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn refund_at_stake(db: &Database, order: &OrderId, amount: Option<Fen>) -> Result<Option<Fen>, StoreError> {
    let Some(standing) = standing(db.pool(), order).await? else { return Ok(None) };
    let mut connection = db.pool().acquire().await?;
    let moved = moved(&mut connection, order).await?;
    Ok(Some(moved.checked_add(amount.unwrap_or(standing.left_fen)).unwrap_or(Fen(i64::MAX))))
}

/// Whether a request for a refund is the deed of an override that was judged when it was proposed.
pub(super) async fn allows_refund(step: &mut Step<'_>, request: &RefundRequested) -> Result<bool, StoreError> {
    let decided: Vec<(Uuid, Option<Fen>)> = sqlx::query_as(
        "SELECT override_id, amount_fen FROM order_overrides
          WHERE order_id = $1 AND action = 'refund' AND status IN ('approved', 'done')",
    )
    .bind(&request.order_id)
    .fetch_all(&mut *step.transaction)
    .await?;
    Ok(decided.into_iter().any(|(id, amount_fen)| {
        RefundId::of_override(&request.order_id, id) == request.refund_id && amount_fen == request.amount_fen
    }))
}

/// Makes a proposal of a request for a refund that one operator may not decide alone; one that is open, or was withdrawn,
/// stays as it is. The order is locked.
pub(super) async fn propose_refund(
    step: &mut Step<'_>,
    request: &RefundRequested,
    operator: &str,
    money: Fen,
) -> Result<(), StoreError> {
    let proposal = Proposal {
        override_id: override_of_refund(&request.refund_id),
        order_id: request.order_id.clone(),
        action: OverrideAction::Refund,
        amount_fen: request.amount_fen,
        receipt: None,
        reason: request.reason.clone(),
        operator: operator.to_owned(),
        request_id: request.request_id.clone(),
    };
    if write(step, &proposal, money, OverrideStatus::Proposed).await? {
        tracing::warn!(order_id = %request.order_id, operator, money_fen = money.0,
            "proposed a refund that one operator may not decide alone");
    }
    Ok(())
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

/// Where an override stands, its row locked until the step ends.
pub async fn status(step: &mut Step<'_>, id: Uuid) -> Result<OverrideStatus, StoreError> {
    Ok(sqlx::query_scalar("SELECT status FROM order_overrides WHERE override_id = $1 FOR UPDATE")
        .bind(id)
        .fetch_one(&mut *step.transaction)
        .await?)
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
    let rows = sqlx::query(
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
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    Ok(readable::<Row>("order_overrides", &rows, limit).into_iter().map(OverrideDocument::from).collect())
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
