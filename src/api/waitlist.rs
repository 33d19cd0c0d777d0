//! `/v1/schedules/{id}/waitlist`: a customer's place among those who wait for a seat of a full session.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::ToSchema;

use super::{
    Api, Inner,
    auth::{Caller, Customer},
    hand_over::{counted, hand_over, pace},
    problem::{Kind, Problem, ProblemDocument},
    request::Context,
    schedules::seats,
};
use crate::{
    cache::catalogue::Known,
    domain::{
        ids::ScheduleId,
        message::{Message, WaitlistChange, WaitlistWish},
    },
    store::{self, StoreError, waitlist},
};

/// How long an answer waits for the worker: it usually takes milliseconds, in a rush the place is told later.
const OUTCOME_WITHIN: Duration = Duration::from_secs(2);
/// The first look at the database; each next one waits twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(30);

/// Where you stand.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct WaitlistPlace {
    /// 1 is the next; null when you do not wait, or when the place is not known yet.
    #[schema(minimum = 1, example = 3)]
    position: Option<i64>,
}

/// Wait for a seat
///
/// Whoever waits longest is offered the next seat that comes free, held for them like any other: an order of theirs
/// appears, and a WeChat message tells. Joining twice keeps the first place.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/waitlist", tag = "sessions", security(("bearer" = ["customer"])),
    params(("id" = String, Path)),
    responses(
        (status = 202, description = "You wait, or soon will: `position` is null until the place is known", body = WaitlistPlace),
        (status = 403, description = "`forbidden`: not a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`seats-free`: order one, at the address in `instead`; `schedule-closed`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-requests`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
        (status = 503, description = "`broker-unavailable`: repeat", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn join(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    Customer(caller): Customer,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<WaitlistPlace>), Problem> {
    counted("waitlist.join", change(&api, &context, &caller, &id, WaitlistWish::Join).await)
}

/// Wait no longer
///
/// An order that was offered already is not touched: cancel that one. Leaving twice is harmless.
#[utoipa::path(
    delete, path = "/v1/schedules/{id}/waitlist", tag = "sessions", security(("bearer" = ["customer"])),
    params(("id" = String, Path)),
    responses(
        (status = 202, description = "You no longer wait; `position` is null", body = WaitlistPlace),
        (status = 403, description = "`forbidden`: not a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-requests`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
        (status = 503, description = "`broker-unavailable`: repeat", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn leave(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    Customer(caller): Customer,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<WaitlistPlace>), Problem> {
    counted("waitlist.leave", change(&api, &context, &caller, &id, WaitlistWish::Leave).await)
}

/// Your place among those who wait
#[utoipa::path(
    get, path = "/v1/schedules/{id}/waitlist", tag = "sessions", security(("bearer" = ["customer"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "Where you stand", body = WaitlistPlace),
        (status = 403, description = "`forbidden`: not a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn place(
    State(api): State<Api>,
    Customer(caller): Customer,
    Path(id): Path<String>,
) -> Result<Json<WaitlistPlace>, Problem> {
    let (schedule, _) = known(&api, &id).await?;
    let position = position(&api, &caller, schedule).await.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(WaitlistPlace { position }))
}

async fn change(
    api: &Inner,
    context: &Context,
    caller: &Caller,
    id: &str,
    wish: WaitlistWish,
) -> Result<(StatusCode, Json<WaitlistPlace>), Problem> {
    pace(api, caller).await?;
    let (schedule, known) = known(api, id).await?;
    if wish == WaitlistWish::Join {
        admit(api, schedule, known).await?;
    }
    let message = WaitlistChange {
        schedule_id: schedule,
        user_id: caller.user.clone(),
        openid: caller.openid.clone(),
        wish,
        request_id: context.request_id.clone(),
    };
    hand_over(api, Message::WaitlistChange(message)).await?;
    let position = outcome(api, caller, schedule, wish).await;
    Ok((StatusCode::ACCEPTED, Json(WaitlistPlace { position })))
}

/// The session that an address names, with what the catalogue knows of it.
async fn known(api: &Inner, id: &str) -> Result<(ScheduleId, Known), Problem> {
    let unknown = || Problem::new(Kind::NoSuchSchedule);
    let schedule = ScheduleId::parse(id).map_err(|_| unknown())?;
    // Away: the worker knows.
    match api.cache.known(schedule).await.unwrap_or(Known::Unknown) {
        Known::Absent => Err(unknown()),
        known @ (Known::Card(_) | Known::Unknown) => Ok((schedule, known)),
    }
}

/// Refuses to let somebody wait in vain, as far as it can be seen from here.
async fn admit(api: &Inner, schedule: ScheduleId, known: Known) -> Result<(), Problem> {
    if matches!(known, Known::Card(card) if !card.open) {
        return Err(Problem::new(Kind::ScheduleClosed));
    }
    // Unavailable: the worker lets nobody join what is over.
    match store::schedule::is_open(api.database.pool(), schedule).await {
        Ok(Some(false)) => return Err(Problem::new(Kind::ScheduleClosed)),
        Ok(None) => return Err(Problem::new(Kind::NoSuchSchedule)),
        Ok(Some(true)) | Err(_) => {}
    }
    match seats(api, schedule).await {
        Ok(None) => Err(Problem::new(Kind::NoSuchSchedule)),
        Ok(Some(picture)) if picture.available > 0 => {
            let words = format!("{} of {} seats are free.", picture.available, picture.capacity);
            Err(Problem::new(Kind::SeatsFree).detail(words).instead("/v1/orders"))
        }
        // Full; or Redis and PostgreSQL are away, and the worker will see.
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

/// The position once the worker has done the wish; `None` also when that takes too long.
async fn outcome(api: &Inner, caller: &Caller, schedule: ScheduleId, wish: WaitlistWish) -> Option<i64> {
    let deadline = Instant::now() + OUTCOME_WITHIN;
    let look = async {
        let mut pause = FIRST_LOOK;
        loop {
            match position(api, caller, schedule).await {
                Ok(position) if position.is_some() == (wish == WaitlistWish::Join) => return position,
                // Away: the next look may have more luck.
                Ok(_) | Err(_) => sleep(pause).await,
            }
            pause *= 2;
        }
    };
    timeout_at(deadline, look).await.ok().flatten()
}

async fn position(api: &Inner, caller: &Caller, schedule: ScheduleId) -> Result<Option<i64>, StoreError> {
    waitlist::position(api.database.pool(), schedule, &caller.user).await
}
