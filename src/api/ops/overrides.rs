//! `/v1/ops/overrides`: operators' decisions about orders.

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        Api,
        auth::{Operator, Viewer},
        fields::{self, Fields, amount_fen, sentence, text},
        headers::idempotency_key,
        order_follow::order_id,
        paging::{PAGE, Page, Place},
        problem::{Kind, Problem, ProblemDocument},
        request::Context,
    },
    case::after,
};
use crate::{
    desk::overrides::{self as desk, Refusal},
    domain::{
        ids::OrderId,
        money::Fen,
        overrides::{OverrideAction, OverrideDocument, OverrideStatus, Proposal, override_id, receipt},
    },
    store::{self, overrides::OverrideFilter},
};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// List overrides
///
/// The newest first. `status=proposed` is what waits for a second operator.
#[utoipa::path(
    get, path = "/v1/ops/overrides", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(
        ("status" = Option<OverrideStatus>, Query, description = "Only those"),
        ("order_id" = Option<String>, Query, description = "Only about this order"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of overrides", body = Page<OverrideDocument>),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<OverrideDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let filter = OverrideFilter {
        status: fields.optional("status", |value| {
            let word = text(value)?;
            let known = OverrideStatus::ALL.into_iter().find(|status| status.as_str() == word);
            known.ok_or("must be proposed, approved, done, refused or withdrawn")
        }),
        order_id: fields.optional("order_id", id),
        after: fields.optional("cursor", after),
    };
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let found = store::overrides::list(api.desk.pool(), &filter, limit).await;
    let found = found.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::cut(found, |document| Place { at: document.proposed_at, id: document.override_id.to_string() })))
}

fn id(value: &Value) -> Result<OrderId, &'static str> {
    order_id(text(value)?).map_err(|_| "is no order id")
}

/// Read an override
#[utoipa::path(
    get, path = "/v1/ops/overrides/{id}", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The override", body = OverrideDocument),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-override`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<OverrideDocument>, Problem> {
    let found = store::overrides::find(api.desk.pool(), parse(&id)?).await;
    let found = found.map_err(|error| Problem::from_store(&error))?;
    found.map(Json).ok_or_else(|| Problem::new(Kind::NoSuchOverride))
}

fn parse(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id).map_err(|_| Problem::new(Kind::NoSuchOverride))
}

/// A decision about one order.
#[derive(Debug, ToSchema)]
#[schema(as = OverrideRequest)]
pub(in crate::api) struct Wish {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab", pattern = "^[0-9a-z]{6,32}$")]
    order_id: OrderId,
    action: OverrideAction,
    /// Of a refund: all that is left when left out. Of a recorded payment: the order's whole price.
    #[schema(value_type = Option<i64>, minimum = 1)]
    amount_fen: Option<Fen>,
    /// Of a recorded payment: 1 to 24 of a-z, 0-9 and -. The same receipt pays once.
    #[schema(pattern = "^[a-z0-9-]{1,24}$")]
    receipt: Option<String>,
    /// Why: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl Wish {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let mut fields = fields::json_object(headers, body, BODY_BYTES_MAX).await?;
        let order_id = fields.required("order_id", id);
        let action = fields.required("action", action);
        let amount_fen = fields.optional("amount_fen", amount_fen);
        let receipt = fields.optional("receipt", |value| receipt(text(value)?));
        let reason = fields.required("reason", sentence);
        if (action == Some(OverrideAction::RecordPayment)) != receipt.is_some() {
            fields.wrong("receipt", "is given with record_payment and with nothing else");
        }
        fields.finish()?;
        let (Some(order_id), Some(action), Some(reason)) = (order_id, action, reason) else {
            return Err(Problem::new(Kind::InvalidRequest));
        };
        Ok(Self { order_id, action, amount_fen, receipt, reason })
    }
}

/// Decide about an order
///
/// Carried out by the workers, after WeChat was asked where it concerns WeChat; above a configured sum only once a second
/// operator has agreed. The override's id is a pure function of operator and `Idempotency-Key`.
#[utoipa::path(
    post, path = "/v1/ops/overrides", tag = "operators", security(("bearer" = ["operator"])),
    request_body(content = Wish, content_type = "application/json", example = json!({"order_id": "hf2m6qk0c9v1x8y4zt3w7p5rab", "action": "release", "reason": "顾客来电放弃"})),
    params(("Idempotency-Key" = String, Header, description = "Your name for this wish: 1–255 visible ASCII characters")),
    responses(
        (status = 202, description = "`approved`: with the workers; `proposed`: waits for a second operator", body = OverrideDocument),
        (status = 400, description = "`unreadable`, `idempotency-key-missing`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-order`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`override-not-possible`: not for the order as it is, or another decision about it is open", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request` with every wrong field; `idempotency-key-reused`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`: repeat with the same key", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn propose(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    Operator(operator): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<OverrideDocument>), Problem> {
    let key = idempotency_key(&headers)?;
    let operator = operator.user.as_str();
    let Wish { order_id, action, amount_fen, receipt, reason } = Wish::read(&headers, body).await?;
    let proposal = Proposal {
        override_id: override_id(operator, &key),
        order_id,
        action,
        amount_fen,
        receipt,
        reason,
        operator: operator.to_owned(),
        request_id: context.request_id.clone(),
    };
    let document = desk::propose(&api.desk, &api.publisher, &proposal, api.second_person).await.map_err(refused)?;
    if !proposal.is(&document) {
        return Err(Problem::new(Kind::IdempotencyKeyReused));
    }
    Ok((StatusCode::ACCEPTED, Json(document)))
}

fn action(value: &Value) -> Result<OverrideAction, &'static str> {
    let word = text(value)?;
    let known = OverrideAction::ALL.into_iter().find(|action| action.as_str() == word);
    known.ok_or("must be confirm, waive, release, refund, record_payment or close")
}

/// Agree to an override
///
/// As the second operator: nobody approves their own. Repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/ops/overrides/{id}/approve", tag = "operators", security(("bearer" = ["operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 202, description = "With the workers", body = OverrideDocument),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-override`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`second-person-needed`: it is your own; `override-not-possible`: it waits no more", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn approve(
    State(api): State<Api>,
    Operator(operator): Operator,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<OverrideDocument>), Problem> {
    let approved = desk::approve(&api.desk, &api.publisher, parse(&id)?, operator.user.as_str()).await;
    Ok((StatusCode::ACCEPTED, Json(approved.map_err(refused)?)))
}

/// Withdraw an override
///
/// While it waits for a second operator; by whoever proposed it, or by another one, who declines.
#[utoipa::path(
    post, path = "/v1/ops/overrides/{id}/withdraw", tag = "operators", security(("bearer" = ["operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The override, withdrawn", body = OverrideDocument),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-override`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`override-not-possible`: it waits no more", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn withdraw(
    State(api): State<Api>,
    Operator(operator): Operator,
    Path(id): Path<String>,
) -> Result<Json<OverrideDocument>, Problem> {
    let withdrawn = desk::withdraw(&api.desk, parse(&id)?, operator.user.as_str()).await;
    withdrawn.map(Json).map_err(refused)
}

pub(in crate::api) fn refused(refusal: Refusal) -> Problem {
    let kind = match &refusal {
        Refusal::Store(error) => return Problem::from_store(error),
        Refusal::NoSuchOrder => Kind::NoSuchOrder,
        Refusal::NoSuchOverride => Kind::NoSuchOverride,
        Refusal::SamePerson => Kind::SecondPersonNeeded,
        Refusal::NotPossible(_) | Refusal::AnotherIsOpen(_) | Refusal::NotProposed(_) => Kind::OverrideNotPossible,
    };
    Problem::new(kind).detail(format!("{refusal}."))
}
