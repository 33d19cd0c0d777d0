//! The workers, one file each. Part of the library, so that tests can drain their queues in-process.

pub mod expiry;
mod expiry_overrides;
pub mod notifications;
pub mod payments;
pub mod prepay;
pub mod reconcile;
pub mod refunds;
pub mod seats;
mod together;

use std::time::Duration;

use crate::{
    broker::consume::Fault,
    cache::Cache,
    domain::{
        document::Snapshot,
        ids::{OrderId, ScheduleId},
        message::{Alarm, Message, NotificationDue, OrderAlarm, OrderHeld},
        order::Status,
    },
    store::{self, Database, StoreError, waitlist::OffersOf},
    wechat::{answers::Inconclusive, exchange::PayClient},
};

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Away(_) => Self::Away(error.to_string()),
            StoreError::Conflict(_) if error.is_own_when_lasting() => Self::Conflict(error.to_string()),
            StoreError::Conflict(_) => Self::Contention(error.to_string()),
            StoreError::Newer(_) => Self::Newer(error.to_string()),
            StoreError::Bug(_) => Self::Bug(error.to_string()),
        }
    }
}

/// WeChat refuses every call of this kind: the message waits in hand until WeChat answers one as it should.
fn barred(wechat: &PayClient, doubt: &Inconclusive) -> Fault {
    Fault::Barred { reason: doubt.to_string(), until: wechat.answered(doubt.call) }
}

/// Tells the cache what is new. After the commit, and never a reason to fail: the cache forgets by itself.
async fn tell_cache(cache: &Cache, snapshots: &[Snapshot], seats_changed_in: &[ScheduleId]) {
    // Seats first: who hears of an order may look at its session at once. Absent cache: readers ask PostgreSQL.
    let _ = cache.invalidate(seats_changed_in).await;
    let _ = cache.store(snapshots).await;
    let frees_room = |snapshot: &&Snapshot| match snapshot.document.status {
        Status::Confirmed
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired
        | Status::Refunding
        | Status::Refunded => true,
        Status::Submitted | Status::Held | Status::AwaitingPayment | Status::Rejected => false,
    };
    let freed = snapshots.iter().filter(frees_room).map(|snapshot| (snapshot.document.schedule_id, &snapshot.owner));
    let _ = cache.lift_limits(&freed.collect::<Vec<_>>()).await;
}

/// The messages to customers that are due for these orders, from what is stored: the same after a crash.
async fn notifications_due(db: &Database, orders: &[OrderId]) -> Result<Vec<(OrderId, Message)>, StoreError> {
    let pending = store::notification::pending(db.pool(), orders).await?;
    Ok(pending
        .into_iter()
        .map(|(order_id, kind)| (order_id.clone(), Message::NotificationDue(NotificationDue { order_id, kind })))
        .collect())
}

/// How long the alarms of a held order wait.
#[derive(Debug, Clone, Copy)]
pub struct AlarmTimes {
    pub hold: Duration,
    pub payment: Duration,
    /// Between two looks at WeChat for a payment whose callback may be lost.
    pub check: Duration,
}

/// What a held order needs from others: its code, and its alarms. Nothing once it is past that.
fn follow_ups_of_held(snapshot: &Snapshot, times: AlarmTimes) -> Vec<Message> {
    if snapshot.document.status != Status::Held {
        return Vec::new();
    }
    let order_id = &snapshot.document.order_id;
    let alarm = |alarm, after: Duration| {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Message::OrderAlarm(OrderAlarm { order_id: order_id.clone(), alarm, after_ms })
    };
    vec![
        Message::OrderHeld(OrderHeld { order_id: order_id.clone() }),
        alarm(Alarm::Hold, times.hold),
        alarm(Alarm::Payment, times.payment),
        alarm(Alarm::Check, times.check),
    ]
}

/// What the offers need that one message led to, from what is stored.
async fn offers_made(
    db: &Database,
    cache: &Cache,
    of: OffersOf<'_>,
    times: AlarmTimes,
) -> Result<Vec<Message>, StoreError> {
    let offered = store::waitlist::open_offers(db.pool(), of).await?;
    if offered.is_empty() {
        return Ok(Vec::new());
    }
    let snapshots = store::order::snapshots(db.pool(), &offered).await?;
    tell_cache(cache, &snapshots, &[]).await;
    let mut messages: Vec<Message> =
        snapshots.iter().flat_map(|snapshot| follow_ups_of_held(snapshot, times)).collect();
    messages.extend(notifications_due(db, &offered).await?.into_iter().map(|(_, message)| message));
    Ok(messages)
}

/// Alarms of lapsed orders that one step publishes at most; the sweep finds the rest.
const SOLD_OUT_AT_ONCE: i64 = 100;

/// The alarms for lapsed orders of the sessions whose last seat one of these orders took: WeChat must take no money for
/// them. Orders that took no seat, or not the last one, lead to none.
async fn sold_out_alarms(db: &Database, orders: &[OrderId]) -> Result<Vec<Message>, StoreError> {
    let lapsed = store::order::lapsed_by_last_seat(db.pool(), orders, SOLD_OUT_AT_ONCE).await?;
    Ok(lapsed
        .into_iter()
        .map(|order_id| Message::OrderAlarm(OrderAlarm { order_id, alarm: Alarm::SoldOut, after_ms: 0 }))
        .collect())
}
