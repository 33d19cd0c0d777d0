//! `/v1/ops/schedules`: sessions seat by seat, and their cancellation.

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{
    Api,
    auth::{Operator, Viewer},
    fields::{self, text},
    paging::Page,
    problem::{Kind, Problem, ProblemDocument},
    schedules,
};
use crate::{
    desk::{
        cancellation::{self, FASTEST, REASON},
        schedules::ScheduleSeats,
    },
    domain::{
        document::ScheduleDocument,
        ids::{Malformed, ScheduleId},
        text::refund_reason,
    },
    store::{
        self,
        cancellation::{CancellationDocument, NewCancellation},
        seating::{self, Counts},
    },
};

const BODY_BYTES_MAX: usize = 4 * 1024;
/// Refunds and cancellations asked for per second, unless an operator says it otherwise.
const RATE: u32 = 5;

/// A session with its counts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CountedSchedule {
    #[serde(flatten)]
    schedule: ScheduleDocument,
    #[serde(flatten)]
    counts: Counts,
}

/// List sessions
///
/// As customers see them, with how many seats are taken and how many customers wait.
#[utoipa::path(
    get, path = "/v1/ops/schedules", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(
        ("course_id" = Option<String>, Query, description = "Only this course"),
        ("from" = Option<String>, Query, description = "Only sessions that start then or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Only sessions that start before then (RFC 3339)"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = Page<CountedSchedule>),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<CountedSchedule>>, Problem> {
    let Json(page) = schedules::page(&api, query).await?;
    let ids: Vec<ScheduleId> = page.items().iter().map(|schedule| schedule.schedule_id).collect();
    let counts = seating::counts(api.desk.pool(), &ids).await.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(page.map(|schedule| CountedSchedule {
        counts: counts.get(&schedule.schedule_id).copied().unwrap_or_default(),
        schedule,
    })))
}

/// Read a session with its seats
///
/// Every seat by number, and whose it is.
#[utoipa::path(
    get, path = "/v1/ops/schedules/{id}", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The session", body = ScheduleSeats),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<ScheduleSeats>, Problem> {
    let session = crate::desk::schedules::seats(&api.desk, parse(&id)?).await;
    let session = session.map_err(|error| Problem::from_store(&error))?;
    session.map(Json).ok_or_else(|| Problem::new(Kind::NoSuchSchedule))
}

fn parse(id: &str) -> Result<ScheduleId, Problem> {
    ScheduleId::parse(id).map_err(|_| Problem::new(Kind::NoSuchSchedule))
}

/// How a session is cancelled. Every member may be left out.
#[derive(Debug, ToSchema)]
#[schema(as = CancellationRequest)]
pub(in crate::api) struct CancellationWish {
    /// What customers read in WeChat beside their refund: at most 80 bytes.
    #[schema(default = "课程取消", required = false)]
    reason: String,
    /// Refunds and cancellations asked for per second.
    #[schema(minimum = 1, maximum = 150, default = 5, required = false)]
    rate: u32,
    /// Show what would be given back, and change nothing.
    #[schema(default = false, required = false)]
    dry_run: bool,
}

impl CancellationWish {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let mut fields = fields::json_object(headers, body, BODY_BYTES_MAX).await?;
        let dry_run = fields.optional("dry_run", |value| value.as_bool().ok_or("must be true or false"));
        let wish = Self {
            reason: fields
                .optional("reason", |value| refund_reason(text(value).map_err(Malformed)?))
                .unwrap_or_else(|| REASON.to_owned()),
            rate: fields.optional("rate", rate).unwrap_or(RATE),
            dry_run: dry_run.unwrap_or(false),
        };
        fields.finish()?;
        Ok(wish)
    }
}

/// How far the cancellation is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CancellationProgress)]
pub(in crate::api) struct CancellationReport {
    #[schema(value_type = String, format = "uuid")]
    schedule_id: ScheduleId,
    dry_run: bool,
    #[serde(flatten)]
    cancellation: CancellationDocument,
}

/// Cancel a session
///
/// Takes no more orders at once and ends the waiting list. Worker `reconcile` asks for every refund and cancellation, at a
/// rate that WeChat takes, until none is left. Repeating it tells how far it is; nobody is refunded twice.
#[utoipa::path(
    post, path = "/v1/ops/schedules/{id}/cancel", tag = "operators", security(("bearer" = ["operator"])),
    params(("id" = String, Path)),
    request_body(content = CancellationWish, content_type = "application/json", example = json!({"dry_run": true})),
    responses(
        (status = 200, description = "`dry_run`: what it would be about", body = CancellationReport),
        (status = 202, description = "Under way: what is still to be done", body = CancellationReport),
        (status = 400, description = "`unreadable`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn cancel(
    State(api): State<Api>,
    Operator(operator): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CancellationReport>), Problem> {
    let CancellationWish { reason, rate, dry_run } = CancellationWish::read(&headers, body).await?;
    let schedule_id = parse(&id)?;
    let known = store::schedule::find(api.desk.pool(), schedule_id).await;
    if known.map_err(|error| Problem::from_store(&error))?.is_none() {
        return Err(Problem::new(Kind::NoSuchSchedule));
    }
    if !dry_run {
        let requested_by = format!("operator:{}", operator.user);
        let rate = i32::try_from(rate).unwrap_or(1);
        let new = NewCancellation { schedule_id, requested_by, reason, rate };
        let cancelled = cancellation::cancel(&api.desk, Some(&api.cache), &new).await;
        cancelled.map_err(|error| Problem::from_store(&error))?;
    }
    let cancellation = store::cancellation::find(&api.desk, schedule_id).await;
    let cancellation = cancellation.map_err(|error| Problem::from_store(&error))?;
    let status = if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(CancellationReport { schedule_id, dry_run, cancellation })))
}

fn rate(value: &Value) -> Result<u32, &'static str> {
    let rate = value.as_u64().and_then(|rate| u32::try_from(rate).ok());
    rate.filter(|rate| (1..=FASTEST).contains(rate)).ok_or("must be a whole number from 1 to 150")
}
