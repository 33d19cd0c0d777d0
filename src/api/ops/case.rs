//! `/v1/ops/cases`: money and facts that need a person.

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    Api,
    auth::{Operator, Viewer},
    fields::{self, Fields, text},
    order_follow::order_id,
    paging::{PAGE, Page, Place},
    problem::{Kind, Problem, ProblemDocument},
};
use super::dead_letters::line;
use crate::{
    domain::case::{CaseDocument, CaseStatus},
    store::{self, case::CaseFilter},
};

const BODY_BYTES_MAX: usize = 4 * 1024;
/// Of a reason or a resolution, in characters: a sentence or two.
pub(super) const WORDS_MAX: usize = 500;

/// List cases
///
/// The oldest first: those that wait longest. Each says what is at stake and what can be done.
#[utoipa::path(
    get, path = "/v1/ops/cases", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(
        ("status" = Option<String>, Query, description = "`open` (default), `closed` or `all`"),
        ("kind" = Option<String>, Query, description = "Only this kind"),
        ("order_id" = Option<String>, Query, description = "Only about this order"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of cases", body = Page<CaseDocument>),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<CaseDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let filter = CaseFilter {
        status: fields.optional("status", status).unwrap_or(Some(CaseStatus::Open)),
        kind: fields.optional("kind", line),
        order_id: fields.optional("order_id", |value| order_id(text(value)?).map_err(|_| "is no order id")),
        after: fields.optional("cursor", after),
    };
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let cases = store::case::list(api.desk.pool(), &filter, limit).await;
    let cases = cases.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::cut(cases, |case| Place { at: case.opened_at, id: case.case_id.to_string() })))
}

fn status(value: &Value) -> Result<Option<CaseStatus>, &'static str> {
    let word = text(value)?;
    let known = CaseStatus::ALL.into_iter().find(|status| status.as_str() == word);
    if word == "all" { Ok(None) } else { known.map(Some).ok_or("must be open, closed or all") }
}

/// A place among things that have a UUID.
pub(super) fn after(value: &Value) -> Result<(time::OffsetDateTime, Uuid), &'static str> {
    let place = Place::parse(text(value)?)?;
    let id = Uuid::parse_str(&place.id).map_err(|_| "is not a cursor of this list")?;
    Ok((place.at, id))
}

/// Read a case
#[utoipa::path(
    get, path = "/v1/ops/cases/{id}", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The case", body = CaseDocument),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-case`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<CaseDocument>, Problem> {
    find(&api, case_id(&id)?).await.map(Json)
}

fn case_id(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id).map_err(|_| Problem::new(Kind::NoSuchCase))
}

async fn find(api: &Api, id: Uuid) -> Result<CaseDocument, Problem> {
    let case = store::case::find(api.desk.pool(), id).await.map_err(|error| Problem::from_store(&error))?;
    case.ok_or_else(|| Problem::new(Kind::NoSuchCase))
}

/// What became of it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CaseResolution)]
pub(in crate::api) struct Resolution {
    /// What became of the money, with the number that proves it: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500, example = "退款单 50000000382019052709732678859，商户平台")]
    resolution: String,
}

/// Close a case
///
/// For good, with the operator's name and words. A case whose fact is over closes by itself.
#[utoipa::path(
    post, path = "/v1/ops/cases/{id}/close", tag = "operators", security(("bearer" = ["operator"])),
    params(("id" = String, Path)),
    request_body(content = Resolution, content_type = "application/json"),
    responses(
        (status = 200, description = "The case, closed", body = CaseDocument),
        (status = 400, description = "`unreadable`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-case`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`case-closed`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn close(
    State(api): State<Api>,
    Operator(operator): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CaseDocument>, Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let resolution = fields.required("resolution", words);
    fields.finish()?;
    let Resolution { resolution } =
        resolution.map(|resolution| Resolution { resolution }).ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let id = case_id(&id)?;
    let by = format!("operator:{}", operator.user);
    let closed = store::case::settle(&api.desk, id, &by, &resolution).await;
    let closed = closed.map_err(|error| Problem::from_store(&error))?;
    let case = find(&api, id).await?;
    if closed { Ok(Json(case)) } else { Err(Problem::new(Kind::CaseClosed)) }
}

/// A sentence that a person wrote for others.
pub(super) fn words(value: &Value) -> Result<String, &'static str> {
    let words = text(value)?.trim();
    if !(1..=WORDS_MAX).contains(&words.chars().count()) {
        return Err("must have 1 to 500 characters");
    }
    if words.contains(char::is_control) {
        return Err("must be one line without control characters");
    }
    Ok(words.to_owned())
}
