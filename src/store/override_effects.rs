//! What an override does to the books by itself: a seat given for nothing or taken back, set-aside money returned. All
//! of it through the one table and the one door; what concerns WeChat was asked before.

use sqlx::FromRow;

use super::{
    Step, StoreError, case, ending, hold,
    order::{self, Change, Locked, Paid},
    overrides,
    payment_books::Books,
    refund, seat,
    waitlist::Terms,
};
use crate::{
    crash,
    domain::{
        ids::{OrderId, RefundId},
        money::Fen,
        order::{Effect, Event, SeatAtPayment, Step as Outcome, step as decide},
        overrides::{OverrideDocument, OverrideStatus, WAIVED, judge},
    },
};

/// Who decided and why, as the audit log says it.
fn by(document: &OverrideDocument) -> String {
    format!("operator:{}", document.decided_by.as_ref().unwrap_or(&document.proposed_by))
}

/// The change of status that an override leads to; `to` is the table's.
pub fn change(order: &Locked, document: &OverrideDocument, event: &'static str) -> Change {
    Change { reason: Some(document.reason.clone()), ..Change::of_status(order.status, event, by(document)) }
}

/// Gives the order a seat, its own while it holds one; says whether there was one to give.
pub async fn waive(step: &mut Step<'_>, order: &Locked, document: &OverrideDocument) -> Result<bool, StoreError> {
    let sessions = hold::lock_sessions(step, &[order.schedule_id].into()).await?;
    let free = if order.holds_seat { None } else { seat::lowest_free(step, &sessions, order).await? };
    let event = Event::Granted(match (order.holds_seat, free) {
        (true, _) => SeatAtPayment::Held,
        (false, Some(_)) => SeatAtPayment::Free,
        (false, None) => SeatAtPayment::None,
    });
    let Outcome::Move { to, effects } = decide(order.status, event) else {
        return Ok(false);
    };
    if let Some(free) = free {
        seat::take(step, order, free).await?;
    }
    let mut books = Books::default();
    books.confirmed.push(order);
    books.notices.extend(effects.iter().filter_map(|effect| match effect {
        Effect::Notify(kind) => Some((order.order_id.clone(), *kind)),
        _ => None,
    }));
    // Nobody took money: what stands for the transaction says so.
    let paid = Paid { transaction_id: format!("{WAIVED}{}", document.override_id), at: step.now, fen: Fen::ZERO };
    books.changes.push((order, Change { to, paid: Some(paid), ..change(order, document, "waived") }));
    books.write(step).await?;
    Ok(true)
}

/// Takes a waived seat back; one that is free already stays so.
pub async fn revoke(
    step: &mut Step<'_>,
    order: &Locked,
    document: &OverrideDocument,
    terms: &Terms,
) -> Result<(), StoreError> {
    ending::apply(step, order, Event::Revoked, change(order, document, "revoked"), terms).await.map(drop)
}

/// Money that is not as ordered and waits in an open case.
#[derive(Debug, Clone, FromRow)]
struct SetAside {
    transaction_id: String,
    total_fen: Fen,
    success_time: time::OffsetDateTime,
}

/// Sends set-aside money back through the ordinary refunds; says what refund it became. The order is over with it:
/// `None` when there is none, more than one, or the order was settled by other money.
pub async fn give_back(
    step: &mut Step<'_>,
    order: &Locked,
    document: &OverrideDocument,
    terms: &Terms,
) -> Result<Option<RefundId>, StoreError> {
    let mut set_aside = set_aside(step, &order.order_id).await?;
    let (Some(money), true, None) = (set_aside.pop(), set_aside.is_empty(), &order.transaction_id) else {
        return Ok(None);
    };
    sqlx::query("UPDATE payment_transactions SET status = 'settled' WHERE transaction_id = $1")
        .bind(&money.transaction_id)
        .execute(&mut *step.transaction)
        .await?;
    let paid = Paid { transaction_id: money.transaction_id.clone(), at: money.success_time, fen: money.total_fen };
    let change =
        Change { paid: Some(paid), promised: money.total_fen, ..change(order, document, "set_aside_returned") };
    ending::apply(step, order, Event::Returned, change, terms).await?;
    let refund_id = RefundId::of_override(&order.order_id, document.override_id);
    refund::owe(step, &order.order_id, &refund_id, money.total_fen, "付款与订单不符", &by(document)).await?;
    case::close(step, &money.transaction_id, &by(document), &format!("given back: refund {refund_id}")).await?;
    Ok(Some(refund_id))
}

async fn set_aside(step: &mut Step<'_>, order: &OrderId) -> Result<Vec<SetAside>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT t.transaction_id, t.total_fen, t.success_time
           FROM payment_transactions t JOIN cases c ON c.subject = t.transaction_id
          WHERE t.order_id = $1 AND t.status = 'mismatched' AND c.status = 'open'",
    )
    .bind(order)
    .fetch_all(&mut *step.transaction)
    .await?)
}

/// What a decision comes to once its order's lock is held.
pub enum UnderLock {
    /// It stands: this is what it is carried out on.
    Stands(Box<Locked>),
    /// Something else came first; why it cannot be carried out any more.
    Overtaken(&'static str),
    /// Another copy of its message carried it out, or refused it.
    Settled,
}

/// Locks the order that an override is about, which its foreign key says is there, and judges the decision anew by what
/// is read under the lock. What was read before it may be over: two copies of the message are normal.
pub async fn lock(step: &mut Step<'_>, document: &OverrideDocument) -> Result<UnderLock, StoreError> {
    let locked = order::lock(step, std::slice::from_ref(&document.order_id)).await?.pop();
    let locked = locked.ok_or(sqlx::Error::RowNotFound)?;
    if crash::without("judge_under_lock") {
        return Ok(UnderLock::Stands(Box::new(locked)));
    }
    if overrides::status(step, document.override_id).await? != OverrideStatus::Approved {
        return Ok(UnderLock::Settled);
    }
    let standing = overrides::standing(&mut *step.transaction, &document.order_id).await?;
    let standing = standing.ok_or(sqlx::Error::RowNotFound)?;
    Ok(match judge(document.action, document.amount_fen, standing) {
        Ok(_) => UnderLock::Stands(Box::new(locked)),
        Err(why) => UnderLock::Overtaken(why),
    })
}
