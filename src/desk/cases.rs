//! Closing a case: with words, and with the end of the refund that it is about.

use uuid::Uuid;

use crate::{
    cache::Cache,
    domain::refund::EndedBy,
    store::{
        self, Database, StoreError,
        refund_person::{Closing, close_case},
    },
};

/// Closes a case and tells the cache of the order whose sums changed. `by`: `operator:…`. The message to the customer is
/// a row that the sweep puts onto its queue.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn close(
    db: &Database,
    cache: Option<&Cache>,
    id: Uuid,
    by: &str,
    resolution: &str,
    ended: Option<&EndedBy>,
) -> Result<Closing, StoreError> {
    let closing = close_case(db, id, by, resolution, ended).await?;
    if let (Closing::Closed { order: Some(order) }, Some(cache)) = (&closing, cache) {
        let snapshots = store::order::snapshots(db.pool(), std::slice::from_ref(order)).await?;
        // Without the cache it is forgotten by itself.
        let _ = cache.store(&snapshots).await;
    }
    Ok(closing)
}
