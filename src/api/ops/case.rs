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
    fields::{self, Fields, line, sentence, text},
    order_follow::order_id,
    paging::{PAGE, Page, Place},
    problem::{FieldError, Kind, Problem, ProblemDocument},
};
use crate::{
    desk,
    domain::{
        case::{CaseDocument, CaseStatus},
        refund::EndedBy,
    },
    store::{self, case::CaseFilter, refund_person::Closing},
};

const BODY_BYTES_MAX: usize = 4 * 1024;

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
        kind: fields.optional("kind", line::<256>),
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
    /// The case is about a refund that is still owed, and the money was given back outside WeChat: the receipt's number.
    #[schema(min_length = 1, max_length = 64, example = "cash-2026-0412")]
    paid_by_hand: Option<String>,
    /// The case is about a refund that is still owed by the books, and the customer is not owed it.
    #[schema(default = false)]
    not_owed: Option<bool>,
}

/// Close a case
///
/// With the operator's name and words. A case whose fact is over closes by itself. A case about a refund that is still owed
/// (`owed_refund_id`) needs `paid_by_hand` or `not_owed`: the refund ends with the case, in one transaction, and is never
/// sent to WeChat. For any other case they are refused.
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
        (status = 422, description = "`invalid-request`; also when the case is about a refund that is still owed and neither `paid_by_hand` nor `not_owed` is given, or the other way round", body = ProblemDocument, content_type = "application/problem+json"),
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
    let resolution = fields.required("resolution", sentence);
    let paid_by_hand = fields.optional("paid_by_hand", |value| EndedBy::receipt(text(value)?));
    let not_owed = fields.optional("not_owed", |value| value.as_bool().ok_or("must be true or false")) == Some(true);
    if not_owed && paid_by_hand.is_some() {
        fields.wrong("not_owed", "a refund is either paid by hand or not owed");
    }
    fields.finish()?;
    let asked = resolution.map(|resolution| Resolution { resolution, paid_by_hand, not_owed: Some(not_owed) });
    let Resolution { resolution, paid_by_hand, not_owed } = asked.ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let ended = match paid_by_hand {
        Some(receipt) => Some(EndedBy::Hand { receipt }),
        None => not_owed.unwrap_or(false).then_some(EndedBy::NotOwed),
    };
    let id = case_id(&id)?;
    let by = format!("operator:{}", operator.user);
    let closing = desk::cases::close(&api.desk, Some(&api.cache), id, &by, &resolution, ended.as_ref()).await;
    match closing.map_err(|error| Problem::from_store(&error))? {
        Closing::Closed { .. } => find(&api, id).await.map(Json),
        Closing::WasClosed => Err(Problem::new(Kind::CaseClosed)),
        Closing::NoSuchCase => Err(Problem::new(Kind::NoSuchCase)),
        Closing::RefundIsOwed(refund) => {
            let problem =
                format!("is missing: refund {refund} is still owed; give the receipt's number, or not_owed: true");
            Err(Problem::invalid(vec![FieldError { field: "paid_by_hand".into(), problem }]))
        }
        Closing::NoRefundIsOwed => {
            let problem = "the case is about no refund that is still owed: give the resolution alone".to_owned();
            let field = if not_owed == Some(true) { "not_owed" } else { "paid_by_hand" };
            Err(Problem::invalid(vec![FieldError { field: field.into(), problem }]))
        }
    }
}
