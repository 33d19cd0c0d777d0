//! Sessions as operators handle them: added with all seats free, looked at seat by seat.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    cache::{Cache, catalogue::Card},
    domain::{
        document::{ScheduleDocument, SeatDocument},
        ids::ScheduleId,
    },
    store::{self, Database, StoreError, schedule::NewSchedule},
};

/// A session with each of its seats.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleSeats {
    #[serde(flatten)]
    pub schedule: ScheduleDocument,
    /// By number.
    pub seats: Vec<SeatDocument>,
    /// Customers on its waiting list.
    pub waiting: i64,
}

/// Adds a session and tells the ingress of it.
pub async fn add(db: &Database, cache: Option<&Cache>, new: &NewSchedule) -> Result<ScheduleDocument, StoreError> {
    let mut step = db.begin("schedule.add").await?;
    store::schedule::add(&mut step, new).await?;
    step.commit().await?;
    let document = store::schedule::added(db.pool(), new.schedule_id).await?;
    announce(cache, std::slice::from_ref(&document)).await;
    Ok(document)
}

/// A session with its seats; `None` when there is none.
pub async fn seats(db: &Database, id: ScheduleId) -> Result<Option<ScheduleSeats>, StoreError> {
    let Some(schedule) = store::schedule::find(db.pool(), id).await? else { return Ok(None) };
    let seats = store::schedule::seats(db.pool(), id).await?;
    let waiting = store::waitlist::waiting(db.pool(), id).await?;
    Ok(Some(ScheduleSeats { schedule, seats, waiting }))
}

/// Tells the ingress of new or changed sessions at once. Without the cache it finds them by itself, within half a
/// minute.
pub async fn announce(cache: Option<&Cache>, schedules: &[ScheduleDocument]) {
    if let Some(cache) = cache {
        let cards: Vec<_> = schedules.iter().map(|schedule| (schedule.schedule_id, Card::of(schedule))).collect();
        let _ = cache.put_cards(&cards).await;
    }
}
