//! The workers, one file each. Part of the library, so that tests can drain their queues in-process.

pub mod notifications;
pub mod payments;
pub mod prepay;
pub mod reconcile;
pub mod seats;

use crate::{
    broker::consume::Fault,
    cache::Cache,
    domain::{
        document::Snapshot,
        ids::OrderId,
        ids::ScheduleId,
        message::{Message, NotificationDue},
    },
    store::{self, Database, StoreError},
};

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Away(_) | StoreError::Conflict(_) => Self::Away(error.to_string()),
            StoreError::Bug(_) => Self::Bug(error.to_string()),
        }
    }
}

/// Tells the cache what is new. After the commit, and never a reason to fail: the cache forgets by itself.
async fn tell_cache(cache: &Cache, snapshots: &[Snapshot], seats_changed_in: &[ScheduleId]) {
    // Absent cache: readers ask PostgreSQL.
    let _ = cache.store(snapshots).await;
    let _ = cache.invalidate(seats_changed_in).await;
}

/// The messages to customers that are due for these orders, from what is stored: the same after a crash.
async fn notifications_due(db: &Database, orders: &[OrderId]) -> Result<Vec<(OrderId, Message)>, StoreError> {
    let pending = store::notification::pending(db.pool(), orders).await?;
    Ok(pending
        .into_iter()
        .map(|(order_id, kind)| (order_id.clone(), Message::NotificationDue(NotificationDue { order_id, kind })))
        .collect())
}
