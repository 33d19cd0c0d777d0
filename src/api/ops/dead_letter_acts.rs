//! `POST /v1/ops/dead-letters/discard`, `…/restore`, `…/notes`, and `GET …/acts`: who decided what, and why.

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::dead_letters::{problem, selection};
use crate::{
    api::{
        Api,
        auth::{Operator, Viewer},
        fields::{self, Fields, line, note as written, text},
        paging::{PAGE, Page},
        problem::{Kind, Problem, ProblemDocument},
    },
    dead_letters::{
        Selection,
        document::{ActDocument, OutcomeDocument},
    },
};

/// Enough for ten thousand letters by name.
pub(super) const BODY_BYTES_MAX: usize = 512 * 1024;

/// Which letters: by name, or all that fit a filter.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
#[schema(as = DeadLetterChoice)]
pub(super) struct Choice {
    /// By name; at most 10 000.
    #[schema(min_items = 1, max_items = 10_000)]
    letters: Option<Vec<String>>,
    /// The parameters of the list: `queue`, `error_class`, `kind`, `order_id`, `cause`, `effect`, `text`, `since`,
    /// `until`. An empty object chooses all that are parked.
    #[schema(value_type = Option<Object>, example = json!({"cause": "3f9a0c1b2d4e"}))]
    filter: Option<Value>,
    /// Why; kept for ever: at most 2 000 bytes.
    #[schema(min_length = 1, max_length = 2_000)]
    reason: String,
}

/// Discard dead letters
///
/// Takes them out of their queues and keeps them. A letter whose order has open money stays as it is, and is told in
/// `refused`.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/discard", tag = "dead letters", security(("bearer" = ["operator"])),
    request_body(content = Choice, content_type = "application/json"),
    responses(
        (status = 200, description = "What was discarded, and what not", body = OutcomeDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-fits`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`: a reason is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn discard(
    State(api): State<Api>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OutcomeDocument>, Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let reason = fields.required("reason", written);
    let choice = choice(&mut fields);
    fields.finish()?;
    let (reason, choice) = reason.zip(choice).ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let actor = format!("operator:{}", caller.user.as_str());
    Ok(Json(api.dead_letters.discard(&choice, &actor, &reason).await.map_err(problem)?))
}

/// Restore discarded dead letters
///
/// Puts them back into their queues as they were.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/restore", tag = "dead letters", security(("bearer" = ["operator"])),
    request_body(content = Choice, content_type = "application/json"),
    responses(
        (status = 200, description = "What was restored, and what not", body = OutcomeDocument),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-fits`: none of them is discarded", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`: `letters` by name, and a reason", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn restore(
    State(api): State<Api>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OutcomeDocument>, Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let reason = fields.required("reason", written);
    let letters = fields.required("letters", letters);
    fields.finish()?;
    let (reason, letters) = reason.zip(letters).ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let actor = format!("operator:{}", caller.user.as_str());
    Ok(Json(api.dead_letters.restore(&letters, &actor, &reason).await.map_err(problem)?))
}

/// What somebody knows about a cause.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
#[schema(as = DeadLetterNote)]
pub(super) struct Note {
    #[schema(example = "3f9a0c1b2d4e", min_length = 1, max_length = 64)]
    cause: String,
    /// 1 to 2 000 characters; line breaks are kept.
    #[schema(min_length = 1, max_length = 2_000)]
    note: String,
}

/// Note what is known about a cause
///
/// It is shown with every letter and group of this cause.
#[utoipa::path(
    post, path = "/v1/ops/dead-letters/notes", tag = "dead letters", security(("bearer" = ["operator"])),
    request_body(content = Note, content_type = "application/json"),
    responses(
        (status = 204, description = "Written"),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`: none ever had this cause", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn note(
    State(api): State<Api>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let cause = fields.required("cause", line::<64>);
    let note = fields.required("note", written);
    fields.finish()?;
    let (cause, note) = cause.zip(note).ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let actor = format!("operator:{}", caller.user.as_str());
    api.dead_letters.note(&cause, &actor, &note).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// List what operators did to dead letters
///
/// Newest first: who, when, why, and to which letters.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/acts", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "A page of acts", body = Page<ActDocument>),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<ActDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let before = fields.optional("cursor", |value| text(value)?.parse().map_err(|_| "is not a cursor of this list"));
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let acts = api.dead_letters.acts(before, limit).await.map_err(problem)?;
    Ok(Json(Page::by_number(acts)))
}

/// The letters that a body chooses: `letters`, or `filter`.
pub(super) fn choice(fields: &mut Fields) -> Option<Selection> {
    let named = fields.optional("letters", letters);
    let filter = fields.optional("filter", |value| {
        let Value::Object(members) = value else { return Err("must be an object".to_owned()) };
        filter(members.clone())
    });
    match (named, filter) {
        (Some(letters), None) => {
            let mut chosen = Selection::default();
            chosen.filter.letters = Some(letters);
            Some(chosen)
        }
        (None, Some(filter)) => Some(filter),
        (Some(_), Some(_)) => {
            fields.wrong("filter", "cannot be given together with letters");
            None
        }
        (None, None) => {
            fields.wrong("letters", "or filter is needed");
            None
        }
    }
}

fn filter(members: Map<String, Value>) -> Result<Selection, String> {
    let mut fields = Fields::new(members);
    let selection = selection(&mut fields);
    fields.finish().map_err(|problem| problem.fields_in_words())?;
    Ok(selection)
}

fn letters(value: &Value) -> Result<Vec<String>, &'static str> {
    const WRONG: &str = "must be 1 to 10000 letters' ids";
    let names = value.as_array().filter(|names| (1..=10_000).contains(&names.len())).ok_or(WRONG)?;
    let name = |name: &Value| line::<64>(name).ok();
    names.iter().map(name).collect::<Option<_>>().ok_or(WRONG)
}
