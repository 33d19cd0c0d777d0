//! Refunds that WeChat reports and that none of ours asked for, as staff make them in the merchant platform. They
//! belong to the order that WeChat names: they count against what is left, and free the seat when all is gone.

use serde_json::{Map, Value, json};
use sqlx::{FromRow, PgExecutor, types::Json};

use super::{
    Step, StoreError, case, ending,
    order::{self, Change, Locked},
    refund::Recorded,
    refund_person::left,
    waitlist::Terms,
};
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, RefundId},
    message::{RefundFacts, TakenIn},
    money::Fen,
    order::{Event, Status},
    refund::{RefundStanding, RefundStatus},
};

const BY: &str = "worker:refunds";

/// What WeChat reports of a refund beside what the order and the refund are, by field; empty when all agree. A field
/// that WeChat leaves out is not compared. `asked`: the sum of the refund of ours.
pub(super) fn differences(order: &Locked, mchid: &str, asked: Option<Fen>, facts: &RefundFacts) -> Map<String, Value> {
    let mut differing = Map::new();
    let mut compare = |field: &str, ours: Value, wechat: Option<Value>| {
        if let Some(wechat) = wechat.filter(|wechat| *wechat != ours) {
            differing.insert(field.to_owned(), json!({ "ours": ours, "wechat": wechat }));
        }
    };
    if let Some(asked) = asked {
        compare("refund_fen", json!(asked), Some(json!(facts.refund_fen)));
    }
    compare("out_trade_no", json!(order.order_id), Some(json!(facts.out_trade_no)));
    let told = &facts.told;
    compare("mchid", json!(mchid), told.mchid.as_ref().map(|mchid| json!(mchid)));
    compare("currency", json!("CNY"), told.currency.as_ref().map(|currency| json!(currency)));
    if order.transaction_id.is_some() {
        compare("transaction_id", json!(order.transaction_id), told.transaction_id.as_ref().map(|id| json!(id)));
        compare("total_fen", json!(order.paid_fen), told.total_fen.map(|fen| json!(fen)));
    }
    differing
}

/// Compares WeChat's own number of a refund, too: it stands for one refund. `id`: the refund of the books, if there is one.
pub(super) async fn compare_number(
    step: &mut Step<'_>,
    differing: &mut Map<String, Value>,
    facts: &RefundFacts,
    id: Option<&RefundId>,
) -> Result<(), StoreError> {
    let other: Option<String> = sqlx::query_scalar(
        "SELECT refund_id FROM refunds WHERE wechat_refund_id = $1 AND refund_id IS DISTINCT FROM $2",
    )
    .bind(&facts.wechat_refund_id)
    .bind(id)
    .fetch_optional(&mut *step.transaction)
    .await?;
    if let Some(other) = other {
        let both = json!({ "wechat": facts.wechat_refund_id, "recorded_for": other });
        differing.insert("wechat_refund_id".to_owned(), both);
    }
    Ok(())
}

/// Records a refund that is not ours. A number that is in the books is recorded by [`super::refund::record`].
pub(super) async fn take_in(
    step: &mut Step<'_>,
    mchid: &str,
    facts: &RefundFacts,
    taken_in: Option<&TakenIn>,
    terms: &Terms,
) -> Result<Recorded, StoreError> {
    let named = OrderId::try_from(facts.out_trade_no.clone()).ok();
    let Some(order) = order::lock(step, named.as_slice()).await?.pop() else {
        open_case(step, CaseKind::UnknownRefund, facts, None, None).await?;
        return Ok(Recorded::Unknown);
    };
    if super::refund::of_number(&mut *step.transaction, &facts.out_refund_no).await?.is_some() {
        // Another message entered it while this one waited for the lock.
        return Err(StoreError::Conflict(sqlx::Error::RowNotFound));
    }
    let order_id = order.order_id.clone();
    note(step, &order_id, facts).await?;
    let its_own = order.transaction_id.is_some()
        && facts.told.transaction_id.as_ref().is_none_or(|id| Some(id) == order.transaction_id.as_ref());
    if !its_own {
        return of_other_money(step, &order, facts).await;
    }
    let mut differing = differences(&order, mchid, None, facts);
    compare_number(step, &mut differing, facts, None).await?;
    if !differing.is_empty() {
        open_case(step, CaseKind::RefundMismatch, facts, Some(&order_id), Some(differing)).await?;
        return Ok(Recorded::Mismatched);
    }
    let status = match facts.standing {
        RefundStanding::Success => RefundStatus::Succeeded,
        RefundStanding::Processing => RefundStatus::Processing,
        RefundStanding::Abnormal => RefundStatus::Abnormal,
        // WeChat dropped it: no money moves.
        RefundStanding::Closed => return Ok(Recorded::Foreign { order_id }),
    };
    open_case(step, CaseKind::UnknownRefund, facts, Some(&order_id), None).await?;
    if !count(step, &order, facts, status, taken_in, terms).await? {
        // More than the order has, with what a person has paid by hand: a person has to look.
        open_case(step, CaseKind::RefundedTwice, facts, Some(&order_id), None).await?;
    }
    Ok(Recorded::Foreign { order_id })
}

/// Money of the order that is not, or not yet, what settled it: an unknown payment, or one that was set aside.
async fn of_other_money(step: &mut Step<'_>, order: &Locked, facts: &RefundFacts) -> Result<Recorded, StoreError> {
    let set_aside: Option<Fen> = sqlx::query_scalar(
        "SELECT total_fen FROM payment_transactions
          WHERE transaction_id = $1 AND order_id = $2 AND status = 'mismatched'",
    )
    .bind(&facts.told.transaction_id)
    .bind(&order.order_id)
    .fetch_optional(&mut *step.transaction)
    .await?;
    let order_id = order.order_id.clone();
    if let (Some(total), Some(transaction)) = (set_aside, &facts.told.transaction_id)
        && facts.standing == RefundStanding::Success
        && total == facts.refund_fen
    {
        // Somebody followed the advice of its case.
        let resolution = format!("given back at WeChat: refund {}", facts.out_refund_no);
        case::close(step, transaction, BY, &resolution).await?;
        return Ok(Recorded::Foreign { order_id });
    }
    open_case(step, CaseKind::UnknownRefund, facts, Some(&order_id), None).await?;
    if order.transaction_id.is_none() { Ok(Recorded::Early { order_id }) } else { Ok(Recorded::Foreign { order_id }) }
}

async fn open_case(
    step: &mut Step<'_>,
    kind: CaseKind,
    facts: &RefundFacts,
    order: Option<&OrderId>,
    differing: Option<Map<String, Value>>,
) -> Result<(), StoreError> {
    let mut details = json!({
        "out_trade_no": facts.out_trade_no, "wechat_refund_id": facts.wechat_refund_id,
        "transaction_id": facts.told.transaction_id,
    });
    if let Some(differing) = differing {
        details["differs"] = Value::Object(differing);
    }
    case::open(step, kind, &facts.out_refund_no, order, facts.refund_fen, details).await
}

/// Keeps what WeChat reported, whatever can be concluded from it now.
async fn note(step: &mut Step<'_>, order: &OrderId, facts: &RefundFacts) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO wechat_refunds (out_refund_no, order_id, transaction_id, refund_fen, standing, facts)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (out_refund_no) DO UPDATE
            SET standing = excluded.standing, facts = excluded.facts, updated_at = now()
          WHERE wechat_refunds.standing <> 'success'",
    )
    .bind(&facts.out_refund_no)
    .bind(order)
    .bind(&facts.told.transaction_id)
    .bind(facts.refund_fen)
    .bind(facts.standing.as_str())
    .bind(Json(facts))
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct Ours {
    refund_id: RefundId,
    status: RefundStatus,
    amount_fen: Fen,
}

/// Enters it as a refund of the order. What WeChat took can no more be given back by a refund of ours that WeChat has not
/// accepted: such a one is refused, and the rest of it asked for under the next number. WeChat cannot have accepted it,
/// since both together are more than the payment. `false` when the order has not so much.
async fn count(
    step: &mut Step<'_>,
    order: &Locked,
    facts: &RefundFacts,
    status: RefundStatus,
    taken_in: Option<&TakenIn>,
    terms: &Terms,
) -> Result<bool, StoreError> {
    let ours: Vec<Ours> = sqlx::query_as(
        "SELECT refund_id, status, amount_fen FROM refunds
          WHERE order_id = $1 AND status IN ('requested', 'processing', 'succeeded', 'abnormal', 'paid_by_hand')
          ORDER BY created_at, refund_id",
    )
    .bind(&order.order_id)
    .fetch_all(&mut *step.transaction)
    .await?;
    let fixed = ours.iter().filter(|refund| refund.status != RefundStatus::Requested);
    let fixed: i64 = fixed.map(|refund| refund.amount_fen.0).fold(facts.refund_fen.0, i64::saturating_add);
    let Some(mut room) = order.paid_fen.0.checked_sub(fixed).filter(|room| *room >= 0) else { return Ok(false) };
    let mut promised = fixed;
    for refund in ours.iter().filter(|refund| refund.status == RefundStatus::Requested) {
        let kept = refund.amount_fen.0.min(room);
        if kept < refund.amount_fen.0 {
            give_way(step, &refund.refund_id, Fen(kept)).await?;
        }
        room -= kept;
        promised = promised.saturating_add(kept);
    }
    let id = RefundId::at_wechat(&order.order_id, &facts.out_refund_no);
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, wechat_refund_id, out_refund_no,
                              sent_at, succeeded_at, next_check_at)
         VALUES ($1, $2, $3, $4, '商户平台退款', $5, $6, $7, least($8, now()), $8,
                 CASE WHEN $3 = 'processing'::refund_status THEN now() END)",
    )
    .bind(&id)
    .bind(&order.order_id)
    .bind(status)
    .bind(facts.refund_fen)
    .bind(taken_in.map_or("wechat:merchant-platform", |taken| taken.operator.as_str()))
    .bind(&facts.wechat_refund_id)
    .bind(&facts.out_refund_no)
    .bind(facts.success_time.filter(|_| status == RefundStatus::Succeeded))
    .execute(&mut *step.transaction)
    .await?;
    sqlx::query("UPDATE wechat_refunds SET refund_id = $2, updated_at = now() WHERE out_refund_no = $1")
        .bind(&facts.out_refund_no)
        .bind(&id)
        .execute(&mut *step.transaction)
        .await?;
    if let Some(transaction) = &order.transaction_id {
        let resolution = format!("it is refund {}", facts.out_refund_no);
        case::close_one(step, CaseKind::RefundAtWechat.as_str(), transaction, BY, &resolution).await?;
    }
    let back = if status == RefundStatus::Succeeded { facts.refund_fen } else { Fen::ZERO };
    if status == RefundStatus::Abnormal {
        let details = json!({ "out_refund_no": facts.out_refund_no });
        case::open(step, CaseKind::RefundAbnormal, id.as_str(), Some(&order.order_id), facts.refund_fen, details)
            .await?;
    }
    let reason = match taken_in {
        Some(taken) => format!("{} (WeChat refund {})", taken.reason, facts.out_refund_no),
        None => format!("WeChat refund {}", facts.out_refund_no),
    };
    let actor = taken_in.map_or(BY, |taken| &taken.operator).to_owned();
    let name = "refund_at_wechat";
    let mut more = promised.saturating_sub(order.refund_promised_fen.0);
    let mut order = order.clone();
    if order.status == Status::Refunded {
        // Its customer took back less than all: it is opened for the rest, and ends again with it.
        let (promised, reason) = (Fen(more), Some(reason.clone()));
        let change = Change { promised, reason, ..Change::of_status(order.status, name, actor.clone()) };
        ending::apply(step, &order, Event::RefundRequested { whole: false }, change, terms).await?;
        order = order::lock(step, &[order.order_id]).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        more = 0;
        if status != RefundStatus::Succeeded {
            return Ok(true);
        }
    }
    let left = left(step, &order, promised, order.refunded_fen.0.saturating_add(back.0), None).await?;
    let event = match (status, order.status) {
        (RefundStatus::Succeeded, _) => Event::RefundSucceeded { left },
        (_, Status::Refunding) => Event::RefundDropped { left },
        _ => Event::RefundRequested { whole: false },
    };
    let change = Change {
        promised: Fen(more),
        refunded: back,
        reason: Some(reason),
        ..Change::of_status(order.status, name, actor)
    };
    let changed = ending::apply(step, &order, event, change, terms).await?;
    // An order with money takes each of these.
    if changed { Ok(true) } else { Err(StoreError::Bug(sqlx::Error::RowNotFound)) }
}

/// A refund that WeChat can no more accept is refused; what is left of it is asked for under the next number.
async fn give_way(step: &mut Step<'_>, id: &RefundId, rest: Fen) -> Result<(), StoreError> {
    let why = if rest == Fen::ZERO { "nothing-left" } else { "more-than-left" };
    sqlx::query(
        "UPDATE refunds SET status = 'refused', error = $2, next_check_at = NULL, updated_at = now() WHERE refund_id = $1",
    )
    .bind(id)
    .bind(why)
    .execute(&mut *step.transaction)
    .await?;
    case::close(step, id.as_str(), BY, "money of the order was given back at WeChat without this refund").await?;
    if rest > Fen::ZERO {
        sqlx::query(
            "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, replaces, next_check_at)
             SELECT $2, order_id, 'requested', $3, reason, requested_by, refund_id, now() FROM refunds WHERE refund_id = $1",
        )
        .bind(id)
        .bind(id.successor())
        .bind(rest)
        .execute(&mut *step.transaction)
        .await?;
    }
    Ok(())
}

/// A refund at WeChat that WeChat dropped, though it was counted: its promise is given back.
pub(super) async fn dropped(step: &mut Step<'_>, order: &Locked, amount: Fen, terms: &Terms) -> Result<(), StoreError> {
    let promised = order.refund_promised_fen.0.saturating_sub(amount.0);
    let left = left(step, order, promised, order.refunded_fen.0, None).await?;
    let change = Change { promised: Fen(-amount.0), ..Change::of_status(order.status, "refund_at_wechat_closed", BY) };
    ending::apply(step, order, Event::RefundDropped { left }, change, terms).await.map(drop)
}

/// What WeChat reported of refunds of these orders and could not be counted when it came; the order is paid now.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn waiting(db: impl PgExecutor<'_>, orders: &[OrderId]) -> Result<Vec<(OrderId, RefundFacts)>, StoreError> {
    let rows: Vec<(OrderId, Json<RefundFacts>)> = sqlx::query_as(
        "SELECT w.order_id, w.facts FROM wechat_refunds w JOIN payment_orders o USING (order_id)
          WHERE w.order_id = ANY($1) AND w.refund_id IS NULL AND w.standing <> 'closed'
            AND o.transaction_id = coalesce(w.transaction_id, o.transaction_id)",
    )
    .bind(orders)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(order, Json(facts))| (order, facts)).collect())
}
