//! `/v1/ops/dead-letters/replays…`: sets of letters that go back to work. A request only asks; `reconcile` carries out.

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    dead_letter_acts::{BODY_BYTES_MAX, choice},
    dead_letters::problem,
};
use crate::{
    api::{
        Api, Inner,
        auth::{Caller, Operator, Viewer},
        fields::{self, Fields, line, note, text},
        paging::{PAGE, Page, Place},
        problem::{Kind, Problem, ProblemDocument},
    },
    dead_letters::{
        Plan, Turn,
        document::{ItemDocument, ReplayDocument},
    },
};

/// A set of letters, and how it is to be replayed.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
#[schema(as = ReplayRequest)]
pub(super) struct Request {
    /// By name; at most 10 000.
    #[schema(min_items = 1, max_items = 10_000)]
    letters: Option<Vec<String>>,
    /// The parameters of the list; an empty object chooses all that are parked.
    #[schema(value_type = Option<Object>, example = json!({"cause": "3f9a0c1b2d4e"}))]
    filter: Option<Value>,
    /// Why; kept for ever: at most 2 000 bytes. Needed with a patch.
    #[schema(min_length = 1, max_length = 2_000)]
    reason: Option<String>,
    /// Freeze and judge the set, publish nothing; `start` replays exactly this set.
    #[schema(default = false)]
    dry_run: Option<bool>,
    /// So many go first, alone; the rest follows once they are done, or have not come back within ten seconds.
    #[schema(default = 1, minimum = 0, maximum = 10000)]
    canary: Option<i32>,
    #[schema(default = 500, minimum = 1, maximum = 10000)]
    per_second: Option<i32>,
    /// Pauses when more than this share of what was published was parked again.
    #[schema(default = 20, minimum = 0, maximum = 100)]
    stop_percent: Option<i32>,
    /// A JSON merge patch (RFC 7396) for every body: the result must be a message of the same kind and business key.
    #[schema(value_type = Option<Object>)]
    patch: Option<Value>,
}

/// Replay dead letters
///
/// The set is frozen now. Without `dry_run` its replay starts at once, carried out by the worker `reconcile`; the
/// answer does not wait for it.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/replays", tag = "dead letters", security(("bearer" = ["operator"])),
    request_body(content = Request, content_type = "application/json"),
    responses(
        (status = 201, description = "Planned (`dry_run`)", body = ReplayDocument, headers(("Location" = String))),
        (status = 202, description = "Running; how far it is, is at `Location`", body = ReplayDocument, headers(("Location" = String))),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-fits`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`, also when the patch does not fit a letter", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn plan(
    State(api): State<Api>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let mut plan = Plan::new(format!("operator:{}", caller.user.as_str()), String::new());
    // For the record only what a filter says: letters by name are the set itself.
    plan.asked = fields.optional("filter", |value| Ok::<_, &str>(value.clone())).map_or(json!({}), |filter| {
        fields.put_back("filter", filter.clone());
        json!({ "filter": filter })
    });
    plan.patch = fields.optional("patch", |value| value.as_object().map(|_| value.clone()).ok_or("must be an object"));
    plan.reason = match &plan.patch {
        Some(_) => fields.required("reason", note),
        None => fields.optional("reason", note),
    }
    .unwrap_or_default();
    plan.dry_run = fields.optional("dry_run", |value| value.as_bool().ok_or("must be true or false")) == Some(true);
    plan.canary = fields.optional("canary", |value| number(value, 0, 10_000)).unwrap_or(plan.canary);
    plan.per_second = fields.optional("per_second", |value| number(value, 1, 10_000)).unwrap_or(plan.per_second);
    plan.stop_percent = fields.optional("stop_percent", |value| number(value, 0, 100)).unwrap_or(plan.stop_percent);
    let choice = choice(&mut fields);
    fields.finish()?;
    let choice = choice.ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let status = if plan.dry_run { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let replay = api.dead_letters.plan(&choice, plan).await.map_err(problem)?;
    let location = HeaderValue::try_from(format!("/v1/ops/dead-letters/replays/{}", replay.replay_id))
        .expect("a UUID is letters, digits and dashes");
    Ok((status, [(header::LOCATION, location)], Json(replay)).into_response())
}

fn number(value: &Value, least: i32, most: i32) -> Result<i32, String> {
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// List replays
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/replays", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "A page of replays", body = Page<ReplayDocument>),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<ReplayDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", |value| {
        let place = Place::parse(text(value)?)?;
        let id = Uuid::parse_str(&place.id).map_err(|_| "is not a cursor of this list")?;
        Ok::<_, &str>((place.at, id))
    });
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let replays = api.dead_letters.replays(after, limit).await.map_err(problem)?;
    Ok(Json(Page::cut(replays, |replay| Place { at: replay.created_at, id: replay.replay_id.to_string() })))
}

/// Read a replay
///
/// How far it is: ask again until `state` is `finished`, `paused` or `cancelled`.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/replays/{id}", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The replay", body = ReplayDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<ReplayDocument>, Problem> {
    Ok(Json(api.dead_letters.replay(replay_id(&id)?).await.map_err(problem)?))
}

/// List the letters of a replay
///
/// In the set's order, each with its result.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/replays/{id}/items", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path), ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "A page of letters", body = Page<ItemDocument>),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn items(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<ItemDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", |value| text(value)?.parse().map_err(|_| "is not a cursor of this list"));
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let items = api.dead_letters.items(replay_id(&id)?, after.unwrap_or(0), limit).await.map_err(problem)?;
    Ok(Json(Page::by_number(items.into_iter().map(|item| (item.place.into(), item)).collect())))
}

/// What an operator says when they start, pause or cancel. The body may be left out.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
#[schema(as = ReplayTurn)]
pub(super) struct Words {
    #[schema(min_length = 1, max_length = 2_000)]
    reason: Option<String>,
    /// The hash of the set that was looked at: refused when it is another one.
    #[schema(min_length = 1, max_length = 2_000)]
    hash: Option<String>,
}

/// Start or resume a replay
///
/// Of what is planned or paused. A running or finished one is answered as it is: nothing is published twice.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/replays/{id}/start", tag = "dead letters", security(("bearer" = ["operator"])),
    params(("id" = String, Path)), request_body(content = Words, content_type = "application/json"),
    responses(
        (status = 202, description = "Running, or finished already", body = ReplayDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`wrong-state`: cancelled, or another set", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn start(
    State(api): State<Api>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayDocument>), Problem> {
    turn(&api, &caller, &id, Turn::Start, &headers, body).await
}

/// Pause a replay
///
/// What the broker has is with the workers; the rest waits for `start`.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/replays/{id}/pause", tag = "dead letters", security(("bearer" = ["operator"])),
    params(("id" = String, Path)), request_body(content = Words, content_type = "application/json"),
    responses(
        (status = 202, description = "Paused, or finished already", body = ReplayDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`wrong-state`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn pause(
    State(api): State<Api>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayDocument>), Problem> {
    turn(&api, &caller, &id, Turn::Pause, &headers, body).await
}

/// Cancel a replay
///
/// For good: what was not published stays parked.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/replays/{id}/cancel", tag = "dead letters", security(("bearer" = ["operator"])),
    params(("id" = String, Path)), request_body(content = Words, content_type = "application/json"),
    responses(
        (status = 202, description = "Cancelled, or finished already", body = ReplayDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn cancel(
    State(api): State<Api>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayDocument>), Problem> {
    turn(&api, &caller, &id, Turn::Cancel, &headers, body).await
}

async fn turn(
    api: &Inner,
    caller: &Caller,
    id: &str,
    turn: Turn,
    headers: &HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayDocument>), Problem> {
    let (mut reason, mut hash) = (None, None);
    if headers.contains_key(header::CONTENT_TYPE) {
        let mut fields = fields::json_object(headers, body, BODY_BYTES_MAX).await?;
        reason = fields.optional("reason", note);
        hash = fields.optional("hash", line::<64>);
        fields.finish()?;
    }
    let (actor, reason) = (format!("operator:{}", caller.user.as_str()), reason.unwrap_or_default());
    let id = replay_id(id)?;
    let replay = api.dead_letters.turn(id, turn, hash.as_deref(), &actor, &reason).await.map_err(problem)?;
    Ok((StatusCode::ACCEPTED, Json(replay)))
}

fn replay_id(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id).map_err(|_| Problem::new(Kind::NoSuchLetter))
}
