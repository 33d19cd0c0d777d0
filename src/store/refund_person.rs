//! Refunds about which a person decides: asked by a case, ended by closing it. Judged under the order's lock, as
//! sending is, so that what a person decides about does not move by itself.

use serde_json::json;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{
    Database, Step, StoreError, case,
    order::{self, Change, Locked},
};
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, RefundId},
    money::Fen,
    order::{Event, Left, step as decide},
    refund::{EndedBy, RefundStatus},
};

/// What came of closing a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// Closed, with the order whose sums changed when a refund was ended.
    Closed {
        order: Option<OrderId>,
    },
    WasClosed,
    NoSuchCase,
    /// The case is about a refund that is still owed, and the caller does not say how it ends.
    RefundIsOwed(RefundId),
    /// The caller ends a refund, and the case is about none that is still owed.
    NoRefundIsOwed,
}

/// What is left of the payment when so much of it is promised and given back.
/// `dropped`: the refund that ends as not owed. Of a booking that its customer gave back, nothing is left once all that the session's rules gave went back.
pub(super) async fn left(
    step: &mut Step<'_>,
    order: &Locked,
    promised: i64,
    refunded: i64,
    dropped: Option<&RefundId>,
) -> Result<Left, StoreError> {
    if refunded == order.paid_fen.0 {
        return Ok(Left::Nothing);
    }
    if promised > refunded {
        return Ok(Left::Promised);
    }
    let given_back: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM refunds WHERE order_id = $1 AND requested_by LIKE 'user:%'
                           AND status NOT IN ('refused', 'not_owed') AND refund_id IS DISTINCT FROM $2)",
    )
    .bind(&order.order_id)
    .bind(dropped)
    .fetch_one(&mut *step.transaction)
    .await?;
    Ok(if given_back { Left::Nothing } else { Left::Kept })
}

/// Opens a case about a refund that WeChat refuses. A refund that has moved on meanwhile needs none.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn ask(
    step: &mut Step<'_>,
    id: &RefundId,
    order: &OrderId,
    kind: CaseKind,
    error: &str,
) -> Result<(), StoreError> {
    if order::lock(step, std::slice::from_ref(order)).await?.is_empty() {
        return Ok(());
    }
    let row: Option<(RefundStatus, Fen)> =
        sqlx::query_as("SELECT status, amount_fen FROM refunds WHERE refund_id = $1")
            .bind(id)
            .fetch_optional(&mut *step.transaction)
            .await?;
    let Some((status, amount)) = row.filter(|(status, _)| status.is_open()) else { return Ok(()) };
    if status == RefundStatus::Requested && kind.asks_person() {
        // The sweep leaves it alone from now on.
        sqlx::query("UPDATE refunds SET error = $2, next_check_at = NULL, updated_at = now() WHERE refund_id = $1")
            .bind(id)
            .bind(error)
            .execute(&mut *step.transaction)
            .await?;
    }
    case::open(step, kind, id.as_str(), Some(order), amount, json!({ "wechat": error })).await
}

/// The refund with this number that is still owed, and its order.
async fn owed(db: impl PgExecutor<'_>, number: &str) -> Result<Option<(RefundId, OrderId)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT refund_id, order_id FROM refunds
          WHERE refund_id = $1 AND status IN ('requested', 'processing', 'abnormal')",
    )
    .bind(number)
    .fetch_optional(db)
    .await?)
}

/// A person closes a case with words, and ends the refund that it is about, in one transaction. `by`: `operator:…`.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn close_case(
    db: &Database,
    id: Uuid,
    by: &str,
    resolution: &str,
    ended: Option<&EndedBy>,
) -> Result<Closing, StoreError> {
    let mut step = db.begin("cases.close").await?;
    let Some((subject, about)) = case::subject(&mut *step.transaction, id).await? else {
        return Ok(Closing::NoSuchCase);
    };
    let found = owed(&mut *step.transaction, &subject).await?;
    // The order first, as everywhere; then what was read before the lock is read again.
    let locked = match found.as_ref().map(|(_, order)| order).or(about.as_ref()) {
        Some(order) => order::lock_for_person(&mut step, order).await?,
        None => None,
    };
    let found = owed(&mut *step.transaction, &subject).await?;
    if !case::lock_open(&mut step, id).await? {
        return Ok(Closing::WasClosed);
    }
    let changed = match (found, ended, locked) {
        (Some((refund, _)), None, _) => return Ok(Closing::RefundIsOwed(refund)),
        (Some((refund, order_id)), Some(ended), Some(locked)) if locked.order_id == order_id => {
            end(&mut step, &locked, &refund, by, resolution, ended).await?;
            // Every other case about this refund is over with it.
            case::close(&mut step, &subject, by, resolution).await?;
            Some(order_id)
        }
        (Some(_), Some(_), _) => return Err(StoreError::Conflict(sqlx::Error::RowNotFound)),
        (None, Some(_), _) => return Ok(Closing::NoRefundIsOwed),
        (None, None, _) => None,
    };
    case::close_by_id(&mut step, id, by, resolution).await?;
    step.commit().await?;
    Ok(Closing::Closed { order: changed })
}

async fn end(
    step: &mut Step<'_>,
    order: &Locked,
    refund: &RefundId,
    by: &str,
    resolution: &str,
    ended: &EndedBy,
) -> Result<(), StoreError> {
    let amount: Fen = sqlx::query_scalar("SELECT amount_fen FROM refunds WHERE refund_id = $1")
        .bind(refund)
        .fetch_one(&mut *step.transaction)
        .await?;
    let (event, change) = match ended {
        EndedBy::Hand { receipt } => {
            let refunded = order.refunded_fen.0.saturating_add(amount.0);
            let left = left(step, order, order.refund_promised_fen.0, refunded, None).await?;
            let change = Change {
                refunded: amount,
                reason: Some(format!("{resolution} (receipt {receipt})")),
                ..Change::of_status(order.status, "refund_paid_by_hand", by.to_owned())
            };
            (Event::RefundSucceeded { left }, change)
        }
        EndedBy::NotOwed => {
            let promised = order.refund_promised_fen.0.saturating_sub(amount.0);
            let change = Change {
                promised: Fen(-amount.0),
                reason: Some(resolution.to_owned()),
                ..Change::of_status(order.status, "refund_not_owed", by.to_owned())
            };
            let left = left(step, order, promised, order.refunded_fen.0, Some(refund)).await?;
            (Event::RefundDropped { left }, change)
        }
    };
    // A refund that is owed belongs to an order with money, and of such an order each of these changes the sums.
    let Some((to, _)) = decide(order.status, event).change(order.status) else {
        return Err(StoreError::Bug(sqlx::Error::RowNotFound));
    };
    let row = order::audit_row(order, &Change { to, ..change });
    sqlx::query("SELECT refund_end_by_person($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
        .bind(refund)
        .bind(ended.as_str())
        .bind(match ended {
            EndedBy::Hand { receipt } => Some(receipt),
            EndedBy::NotOwed => None,
        })
        .bind(to)
        .bind(step.now)
        .bind(row.event)
        .bind(row.actor.as_ref())
        .bind(row.reason.as_ref())
        .bind(row.before.clone().map(Json))
        .bind(Json(row.after.clone()))
        .bind(row.hash(step.now))
        .execute(&mut *step.transaction)
        .await?;
    tracing::info!(refund_id = %refund, ended = ended.as_str(), by, "ended a refund with the case about it");
    Ok(())
}
