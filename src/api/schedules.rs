//! `GET /v1/schedules`, `…/{id}` and `…/{id}/availability`: what can be booked; and the catalogue that orders are judged by.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{
    Api, Inner,
    auth::Caller,
    database_clock::DatabaseClock,
    fields::{Fields, course_id, moment, text},
    paging::{PAGE, Page, Place},
    problem::{Kind, Problem, ProblemDocument},
};
use crate::{
    cache::{
        Cache,
        availability::Picture,
        catalogue::{Card, REFRESH_SECONDS},
    },
    domain::{
        calendar::Moment,
        document::{Availability, ScheduleDocument},
        ids::ScheduleId,
    },
    store::{
        self, Database, StoreError,
        schedule::{ForSale, ScheduleFilter},
    },
};

/// List sessions
///
/// Soonest first, cancelled ones included.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "sessions", security(("bearer" = [])),
    params(
        ("course_id" = Option<String>, Query, description = "Only this course"),
        ("from" = Option<String>, Query, description = "Only sessions that start then or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Only sessions that start before then (RFC 3339)"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = Page<ScheduleDocument>),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _anybody: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<ScheduleDocument>>, Problem> {
    page(&api, query).await
}

/// The page of sessions that a query asks for.
pub(super) async fn page(api: &Inner, query: Vec<(String, String)>) -> Result<Json<Page<ScheduleDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let filter = ScheduleFilter {
        course_id: fields.optional("course_id", course_id).map(String::from),
        from: fields.optional("from", moment).map(Moment::get),
        to: fields.optional("to", moment).map(Moment::get),
        after: fields.optional("cursor", |value| {
            let place = Place::parse(text(value)?)?;
            let id = ScheduleId::parse(&place.id).map_err(|_| "is not a cursor of this list")?;
            Ok::<_, &str>((place.at, id))
        }),
    };
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let sessions = store::schedule::list(api.database.pool(), &filter, limit)
        .await
        .map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::cut(sessions, |session| Place { at: session.starts_at, id: session.schedule_id.to_string() })))
}

/// Read a session
#[utoipa::path(
    get, path = "/v1/schedules/{id}", tag = "sessions", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The session, though it be past or cancelled", body = ScheduleDocument),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _anybody: Caller,
    Path(id): Path<String>,
) -> Result<Json<ScheduleDocument>, Problem> {
    let unknown = || Problem::new(Kind::NoSuchSchedule);
    let schedule = ScheduleId::parse(&id).map_err(|_| unknown())?;
    let session =
        store::schedule::find(api.database.pool(), schedule).await.map_err(|error| Problem::from_store(&error))?;
    session.map(Json).ok_or_else(unknown)
}

/// Free seats of a session
///
/// At most three seconds old.
#[utoipa::path(
    get, path = "/v1/schedules/{id}/availability", tag = "sessions", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "Its seats at the moment `as_of`", body = Availability),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn availability(
    State(api): State<Api>,
    _anybody: Caller,
    Path(id): Path<String>,
) -> Result<Json<Availability>, Problem> {
    let unknown = || Problem::new(Kind::NoSuchSchedule);
    let schedule = ScheduleId::parse(&id).map_err(|_| unknown())?;
    seats(&api, schedule).await?.map(Json).ok_or_else(unknown)
}

/// A session's seats from Redis, else from PostgreSQL; `None` when there is no such session.
pub(super) async fn seats(api: &Inner, schedule: ScheduleId) -> Result<Option<Availability>, Problem> {
    let generation = match api.cache.availability(schedule).await {
        Ok(Picture::Warm(picture)) => return Ok(Some(picture)),
        Ok(Picture::Cold(generation)) => Some(generation),
        // Away: nothing to fill.
        Err(_) => None,
    };
    let picture = store::schedule::availability(api.database.pool(), schedule)
        .await
        .map_err(|error| Problem::from_store(&error))?;
    if let (Some(picture), Some(generation)) = (&picture, generation) {
        // Away: the next reader asks PostgreSQL as well.
        let _ = api.cache.fill_availability(schedule, generation, picture).await;
    }
    Ok(picture)
}

/// Keeps every session's card in Redis until `stop`; without it, orders are judged by the worker alone.
pub(super) async fn keep_catalogue(
    database: Database,
    cache: Cache,
    clock: Arc<DatabaseClock>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(REFRESH_SECONDS));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = refresh_catalogue(&database, &cache, &clock).await {
            tracing::warn!(%error, "the catalogue could not be read");
        }
    }
}

async fn refresh_catalogue(database: &Database, cache: &Cache, clock: &DatabaseClock) -> Result<(), StoreError> {
    let asked = OffsetDateTime::now_utc();
    let now = store::schedule::clock(database.pool()).await?;
    clock.read(asked, now, OffsetDateTime::now_utc());
    let card = |session: ForSale| {
        let ForSale { schedule_id, price_fen, open, times } = session;
        (schedule_id, Card { price_fen, open, times: Some(times) })
    };
    let cards: Vec<_> = store::schedule::for_sale(database.pool()).await?.into_iter().map(card).collect();
    // Away: the marker runs out by itself and nothing is concluded from missing cards.
    if cache.put_cards(&cards).await.is_ok() {
        let _ = cache.mark_catalogue_complete().await;
    }
    Ok(())
}
