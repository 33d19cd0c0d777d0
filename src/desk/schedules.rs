//! Sessions as operators handle them: added with all seats free, looked at seat by seat.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    cache::{Cache, catalogue::Card},
    domain::{
        document::{ScheduleDocument, SeatDocument},
        ids::ScheduleId,
        schedule::NewSchedule,
    },
    store::{self, Database, StoreError, cancellation::CancellationDocument},
};

const ANNOUNCEMENTS: u32 = 5;
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(300);

/// A session with each of its seats.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleSeats {
    #[serde(flatten)]
    pub schedule: ScheduleDocument,
    /// By number.
    pub seats: Vec<SeatDocument>,
    /// Customers on its waiting list.
    pub waiting: i64,
    /// How far its cancellation is; null for one that takes place.
    pub cancellation: Option<CancellationDocument>,
}

/// A session that is there now.
pub struct Added {
    pub schedule: ScheduleDocument,
    /// Not one that had been added by this id before, which stays as it is.
    pub is_new: bool,
}

/// Adds a session and tells the ingress of it.
pub async fn add(db: &Database, cache: Option<&Cache>, new: &NewSchedule) -> Result<Added, StoreError> {
    let mut step = db.begin("schedule.add").await?;
    let is_new = store::schedule::add(&mut step, new).await?;
    if is_new {
        step.commit().await?;
    }
    let schedule = store::schedule::added(db.pool(), new.schedule_id).await?;
    announce(cache, std::slice::from_ref(&schedule)).await;
    Ok(Added { schedule, is_new })
}

/// A session with its seats; `None` when there is none.
pub async fn seats(db: &Database, id: ScheduleId) -> Result<Option<ScheduleSeats>, StoreError> {
    let Some(schedule) = store::schedule::find(db.pool(), id).await? else { return Ok(None) };
    let seats = store::schedule::seats(db.pool(), id).await?;
    let waiting = store::waitlist::waiting(db.pool(), id).await?;
    let cancellation = match schedule.status.as_str() {
        "cancelled" => Some(store::cancellation::find(db, id).await?),
        _ => None,
    };
    Ok(Some(ScheduleSeats { schedule, seats, waiting, cancellation }))
}

/// Tells the ingress of new or changed sessions at once; a Redis that is away for a moment is asked again. Without it
/// the ingress finds them by itself, within half a minute, in which it may refuse a new one as unknown: that is said.
pub async fn announce(cache: Option<&Cache>, schedules: &[ScheduleDocument]) {
    let Some(cache) = cache else { return };
    let cards: Vec<_> = schedules.iter().map(|schedule| (schedule.schedule_id, Card::of(schedule))).collect();
    for _ in 0..ANNOUNCEMENTS {
        if cache.put_cards(&cards).await.is_ok() {
            return;
        }
        tokio::time::sleep(ANNOUNCE_AGAIN).await;
    }
    tracing::warn!("Redis is away: for up to half a minute orders may be refused with no-such-schedule");
}
