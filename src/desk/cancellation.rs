//! Cancelling a session: the intent goes into the books, and worker `reconcile` carries it to its end.

use std::time::{Duration, Instant};

use crate::{
    cache::Cache,
    domain::ids::ScheduleId,
    store::{
        self, Database, StoreError,
        cancellation::{CancellationDocument, NewCancellation},
    },
};

/// WeChat accepts so many refunds a second of one merchant (refund, rates).
pub const FASTEST: u32 = 150;
/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long nothing may change before the command ends and leaves the rest to the workers.
const PATIENCE: Duration = Duration::from_secs(90);
/// What customers read in WeChat beside their refund, unless an operator says it otherwise.
pub const REASON: &str = "课程取消";

/// Why a cancellation was not watched to its end. It is in the books and goes on.
#[derive(Debug, thiserror::Error)]
pub enum Unwatched {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{0} orders stay as they are: refunds above `override.second_person_fen` wait for a second operator's word \
         (`holdfast order override ORDER approve`), all others for the workers `reconcile`, `refunds` and `expiry`. The \
         cancellation is in the books and goes on with them"
    )]
    Standstill(i64),
    #[error(
        "WeChat has the last word about every refund, but no worker `reconcile` has closed the cancellation: it does once \
         it runs"
    )]
    NotClosed,
}

/// Cancels a session and announces it to the ingress: it takes no orders, and nobody waits for it. `false` when there is no
/// such session.
///
/// # Errors
/// PostgreSQL is unavailable; nothing is changed.
pub async fn cancel(db: &Database, cache: Option<&Cache>, new: &NewCancellation) -> Result<bool, StoreError> {
    let mut step = db.begin("schedule.cancel").await?;
    if !store::cancellation::request(&mut step, new).await? {
        return Ok(false);
    }
    step.commit().await?;
    tracing::info!(schedule = %new.schedule_id, by = new.requested_by, "a session is cancelled");
    if let Some(document) = store::schedule::find(db.pool(), new.schedule_id).await? {
        super::schedules::announce(cache, std::slice::from_ref(&document)).await;
    }
    if let Some(cache) = cache {
        // Without the cache it is forgotten by itself.
        let _ = cache.invalidate(&[new.schedule_id]).await;
    }
    Ok(true)
}

/// Watches a cancellation until the books know a refund for every booking and the end of every other order; with
/// `to_the_end` until WeChat has the last word about every refund, and the cancellation is finished in the books. `tell`
/// hears how far it is. Interrupted, nothing is lost.
///
/// # Errors
/// PostgreSQL is unavailable, or nothing changes any more.
pub async fn watch(db: &Database, schedule: ScheduleId, to_the_end: bool, tell: fn(&str)) -> Result<(), Unwatched> {
    let mut last: Option<CancellationDocument> = None;
    let mut changed = Instant::now();
    loop {
        let now = store::cancellation::find(db, schedule).await?;
        let (left, open) = (now.progress.left(), now.progress.refunds_open);
        if left == 0 && (!to_the_end || open == 0 && now.finished_at.is_some()) {
            return Ok(());
        }
        if last.as_ref() != Some(&now) {
            changed = Instant::now();
            tell(&format!("{left} orders are still to be taken up by the workers, {open} refunds are under way"));
        } else if changed.elapsed() > PATIENCE {
            match (left, open) {
                (0, 0) => return Err(Unwatched::NotClosed),
                // WeChat may take days.
                (0, _) => {}
                (left, _) => return Err(Unwatched::Standstill(left)),
            }
        }
        last = Some(now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
