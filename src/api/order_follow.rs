//! Reading one order, and following its changes: told by Redis, looked up in PostgreSQL at a slow pace besides.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Api, Inner,
    auth::{Caller, Role},
    problem::{Kind, Problem},
};
use crate::{
    cache::hub::Watch,
    domain::{
        document::{OrderDocument, Snapshot},
        ids::{OrderId, UserId},
        order::Status,
    },
    store,
};

/// A note (`submitted`) older than this may have been overtaken by a worker whose word to Redis was lost.
const NOTE_TRUSTED: time::Duration = time::Duration::seconds(2);
/// How often a waiter looks for itself: seldom while changes are heard, else soon and then less and less.
const PACE_LIVE: Duration = Duration::from_secs(2);
const PACE_DEAF: Duration = Duration::from_millis(150);

/// The caller's order; 404 also when it is somebody else's, so that ids tell nothing.
pub(super) async fn own_order(api: &Inner, caller: &Caller, id: &str) -> Result<Snapshot, Problem> {
    visible_order(api, caller, id, &[]).await
}

/// An order's id as it stands in an address; 404 when it can be none.
pub(super) fn order_id(id: &str) -> Result<OrderId, Problem> {
    OrderId::try_from(id.to_owned()).map_err(|_| Problem::new(Kind::NoSuchOrder))
}

/// The order, when it is the caller's own or when their role is one of `staff`.
pub(super) async fn visible_order(api: &Inner, caller: &Caller, id: &str, staff: &[Role]) -> Result<Snapshot, Problem> {
    let unknown = || Problem::new(Kind::NoSuchOrder);
    let id = order_id(id)?;
    let snapshot = read(api, &id).await?.ok_or_else(unknown)?;
    if snapshot.owner == caller.user || staff.contains(&caller.role) { Ok(snapshot) } else { Err(unknown()) }
}

/// The order from Redis, else from PostgreSQL; `None` when no worker has taken it and Redis has no note of it.
async fn read(api: &Inner, id: &OrderId) -> Result<Option<Snapshot>, Problem> {
    let cached = api.cache.snapshot(id).await.ok().flatten();
    match cached {
        Some(snapshot) if is_trusted(&snapshot, (api.now)()) => Ok(Some(snapshot)),
        note => match stored(api, id).await {
            Ok(Some(snapshot)) => Ok(Some(snapshot)),
            Ok(None) => Ok(note),
            Err(problem) => note.map(Some).ok_or(problem),
        },
    }
}

fn is_trusted(snapshot: &Snapshot, now: OffsetDateTime) -> bool {
    let document = &snapshot.document;
    document.status != Status::Submitted || now - document.created_at < NOTE_TRUSTED
}

/// The order from PostgreSQL, left in Redis for the next reader.
async fn stored(api: &Inner, id: &OrderId) -> Result<Option<Snapshot>, Problem> {
    let snapshot =
        store::order::snapshot(api.database.pool(), id).await.map_err(|error| Problem::from_store(&error))?;
    if let Some(snapshot) = &snapshot {
        // Away: the next reader asks PostgreSQL as well.
        let _ = api.cache.store(std::slice::from_ref(snapshot)).await;
    }
    Ok(snapshot)
}

/// Follows one order from a version on.
pub(super) struct Follow {
    api: Api,
    id: OrderId,
    owner: UserId,
    watch: Watch,
    /// The newest version that was handed out.
    seen: i32,
    pace: Duration,
}

impl Follow {
    /// Begins to follow; to be called before the order is read, so that no change is missed between the two.
    pub(super) fn begin(api: &Api, id: OrderId, owner: UserId) -> Self {
        Self { watch: api.hub.watch(&id), api: Api::clone(api), id, owner, seen: 0, pace: PACE_DEAF }
    }

    /// What was read: only what is newer will be told.
    pub(super) fn has_seen(&mut self, document: &OrderDocument) {
        self.seen = document.version;
    }

    /// The next newer state of the order; comes when it comes. Cancel-safe.
    pub(super) async fn next(&mut self) -> Snapshot {
        loop {
            let pace = self.pace();
            let heard = tokio::select! {
                change = self.watch.next() => change.as_deref().cloned(),
                () = tokio::time::sleep(pace) => None,
            };
            let newest = match heard {
                Some(snapshot) => Some(snapshot),
                None => {
                    self.pace = (self.pace * 2).min(PACE_LIVE);
                    // Away: the next look may have more luck.
                    stored(&self.api, &self.id).await.ok().flatten()
                }
            };
            if let Some(snapshot) = newest
                && snapshot.document.version > self.seen
                && snapshot.owner == self.owner
            {
                self.seen = snapshot.document.version;
                self.pace = PACE_DEAF;
                return snapshot;
            }
        }
    }

    fn pace(&self) -> Duration {
        if self.api.hub.is_live() { PACE_LIVE } else { self.pace }
    }
}
