//! `GET /v1/ops/schedules` and `…/{id}/seats`: sessions as operators see them, with who sits where.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    api::{
        Api,
        auth::Viewer,
        fields::{Fields, text},
        paging::{PAGE, Page, Place},
        problem::{Kind, Problem, ProblemDocument},
        schedules::moment,
    },
    domain::{document::ScheduleDocument, ids::ScheduleId},
    store::{
        self,
        schedule::ScheduleFilter,
        seating::{self, Counts, Taken},
    },
};

/// How many seats one answer tells of.
const SEATS: i32 = 500;

/// A session with its counts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountedSchedule {
    #[serde(flatten)]
    schedule: ScheduleDocument,
    #[serde(flatten)]
    counts: Counts,
}

/// Part of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Seating {
    #[serde(flatten)]
    session: CountedSchedule,
    /// The first seat of this part, and the last one.
    first: i32,
    last: i32,
    /// The taken seats of this part, by number; all others of it are free.
    items: Vec<Taken>,
    /// The first seat of the next part: give it back as `first`; null at the end of the room.
    next: Option<i32>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    as_of: OffsetDateTime,
}

/// List sessions with their counts
///
/// Soonest first, cancelled ones included.
#[utoipa::path(
    get, path = "/v1/ops/schedules", tag = "operators", security(("bearer" = [])),
    params(
        ("from" = Option<String>, Query, description = "Only sessions that start then or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Only sessions that start before then (RFC 3339)"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = Page<CountedSchedule>),
        (status = 403, description = "`forbidden`: viewers and operators only", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Page<CountedSchedule>>, Problem> {
    let mut fields = Fields::of_query(query);
    let filter = ScheduleFilter {
        course_id: None,
        from: fields.optional("from", moment),
        to: fields.optional("to", moment),
        after: fields.optional("cursor", |value| {
            let place = Place::parse(text(value)?)?;
            let id = ScheduleId::parse(&place.id).map_err(|_| "is not a cursor of this list")?;
            Ok::<_, &str>((place.at, id))
        }),
    };
    fields.finish()?;
    let refused = |error| Problem::from_store(&error);
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let sessions = store::schedule::list(api.database.pool(), &filter, limit).await.map_err(refused)?;
    let ids: Vec<ScheduleId> = sessions.iter().map(|session| session.schedule_id).collect();
    let mut counts = seating::counts(api.database.pool(), &ids).await.map_err(refused)?;
    let items = sessions
        .into_iter()
        .map(|schedule| CountedSchedule { counts: counts.remove(&schedule.schedule_id).unwrap_or_default(), schedule })
        .collect();
    Ok(Json(Page::cut(items, |item: &CountedSchedule| Place {
        at: item.schedule.starts_at,
        id: item.schedule.schedule_id.to_string(),
    })))
}

/// Who sits where
///
/// A part of the room at a time, 500 seats.
#[utoipa::path(
    get, path = "/v1/ops/schedules/{id}/seats", tag = "operators", security(("bearer" = [])),
    params(
        ("id" = String, Path),
        ("first" = Option<i32>, Query, description = "The seat that the part begins with; 1 when absent"),
    ),
    responses(
        (status = 200, description = "The session and a part of its seats", body = Seating),
        (status = 403, description = "`forbidden`: viewers and operators only", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn seats(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Seating>, Problem> {
    let mut fields = Fields::of_query(query);
    let first = fields.optional("first", |value| match text(value)?.parse() {
        Ok(seat @ 1..=1_000_000) => Ok(seat),
        _ => Err("must be the number of a seat"),
    });
    fields.finish()?;
    let first = first.unwrap_or(1);
    let refused = |error| Problem::from_store(&error);
    let unknown = || Problem::new(Kind::NoSuchSchedule);
    let id = ScheduleId::parse(&id).map_err(|_| unknown())?;
    let pool = api.database.pool();
    let schedule = store::schedule::find(pool, id).await.map_err(refused)?.ok_or_else(unknown)?;
    let counts = seating::counts(pool, &[id]).await.map_err(refused)?.remove(&id).unwrap_or_default();
    let items = seating::taken(pool, id, first, SEATS).await.map_err(refused)?;
    let last = (first + SEATS - 1).min(schedule.capacity);
    Ok(Json(Seating {
        next: (last < schedule.capacity).then_some(last + 1),
        session: CountedSchedule { schedule, counts },
        first,
        last,
        items,
        as_of: (api.now)(),
    }))
}
