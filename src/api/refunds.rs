//! `/v1/orders/{id}/refunds`: money that is to go back, and what became of it.

use std::time::Instant;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api, Inner,
    auth::{Caller, Role},
    fields::{self, Fields, amount_fen, text},
    hand_over::{counted, hand_over, pace},
    headers::idempotency_key,
    noted::Asked,
    ops::overrides::refused,
    order_follow::visible_order,
    paging::{PAGE, Page, Place},
    problem::{FieldError, Kind, Problem, ProblemDocument},
    request::Context,
};
use crate::{
    desk::overrides as desk,
    domain::{
        document::OrderDocument,
        history::RefundDocument,
        ids::{IdempotencyKey, Malformed, OrderId, RefundId},
        message::{Message, RefundRequested},
        money::Fen,
        order::Status,
        overrides::{OverrideAction, OverrideDocument, Proposal, override_id},
        refund::RefundStatus,
        text::refund_reason,
    },
    store::{
        StoreError,
        order_history::{self, RefundCursor},
        overrides,
        refund_request::{self, Share},
    },
};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// What is to go back.
#[derive(Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = RefundRequest)]
pub(super) struct Wish {
    /// An operator's: all that is left when left out. A customer names none.
    #[schema(value_type = Option<i64>, minimum = 1, example = 20000)]
    amount_fen: Option<Fen>,
    /// 1 to 80 bytes of UTF-8; the customer reads it in WeChat.
    #[schema(min_length = 1, example = "课程时间不合适")]
    reason: String,
}

impl Wish {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let mut fields = fields::json_object(headers, body, BODY_BYTES_MAX).await?;
        let amount_fen = fields.optional("amount_fen", amount_fen);
        let reason = fields.required("reason", |value| refund_reason(text(value).map_err(Malformed)?));
        fields.finish()?;
        reason.map(|reason| Self { amount_fen, reason }).ok_or_else(|| Problem::new(Kind::InvalidRequest))
    }

    /// Tells this wish from another one under the same key, however its JSON was written.
    fn asked(&self) -> String {
        format!("{} {}", self.amount_fen.map_or_else(|| "all".to_owned(), |fen| fen.0.to_string()), self.reason)
    }

    /// Whether the books hold this very wish. What "all" came to, only they know.
    fn became(&self, refund: &RefundDocument) -> bool {
        self.amount_fen.is_none_or(|fen| fen == refund.amount_fen) && self.reason == refund.reason
    }
}

/// A refund's place in the line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefundReceipt {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab-5b1f0c2d9e8a7b6c5d4e")]
    refund_id: RefundId,
    #[schema(value_type = String)]
    order_id: OrderId,
    status: RefundStatus,
    /// Null: all that is left, which the worker finds out.
    #[schema(value_type = Option<i64>, example = 20000)]
    amount_fen: Option<Fen>,
}

impl IntoResponse for RefundReceipt {
    fn into_response(self) -> Response {
        let location = HeaderValue::try_from(format!("/v1/orders/{}/refunds", self.order_id))
            .expect("an order id is digits and letters");
        (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(self)).into_response()
    }
}

/// What a request for a refund came to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Taken {
    Refund(RefundReceipt),
    /// Waits for a second operator.
    Override(OverrideDocument),
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        match self {
            Self::Refund(receipt) => receipt.into_response(),
            Self::Override(document) => (StatusCode::ACCEPTED, Json(document)).into_response(),
        }
    }
}

/// Ask for a refund
///
/// A customer gives the booking back, and takes back what the session's rules say at this moment; an operator gives back
/// all that is left or a part. Above a configured sum, counted with all that operators moved for the order before, an
/// operator's refund becomes an override that waits for a second one. The refund's id is a pure function of order,
/// requester and `Idempotency-Key`: repeating a request gives the same refund and never a second one.
#[utoipa::path(
    post, path = "/v1/orders/{id}/refunds", tag = "refunds", security(("bearer" = ["owner", "operator"])),
    request_body(content = Wish, content_type = "application/json", example = json!({"reason": "课程时间不合适"})),
    params(
        ("id" = String, Path),
        ("Idempotency-Key" = String, Header, description = "Your name for this wish: 1–255 visible ASCII characters", example = "my-first-refund"),
    ),
    responses(
        (status = 202, description = "In the line; what becomes of it is at `Location`. Of an operator also `proposed`: an override that waits for a second one", body = Taken, headers(("Location" = Option<String>))),
        (status = 400, description = "`unreadable`, `idempotency-key-missing`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: a viewer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-order`, for a customer also other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`not-paid`, `nothing-left`; `refund-not-allowed`: the session's rules give a customer nothing back any more; `override-not-possible`: another decision about the order is open", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request` with every wrong field, more than is left included; `amount-not-yours`: a customer named one; `idempotency-key-reused`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-requests`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
        (status = 503, description = "`broker-unavailable`, `temporarily-unavailable`: repeat with the same key", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn request(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Taken, Problem> {
    counted("refund.requested", take(&api, &context, &caller, &id, &headers, body).await)
}

async fn take(
    api: &Inner,
    context: &Context,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Taken, Problem> {
    let started = Instant::now();
    let key = idempotency_key(headers)?;
    let wish = Wish::read(headers, body).await?;
    pace(api, caller).await?;
    let snapshot = visible_order(api, caller, id, &[Role::Operator, Role::Viewer]).await?;
    let requested_by = match caller.role {
        Role::Operator => format!("operator:{}", caller.user),
        Role::Customer | Role::Viewer if snapshot.owner == caller.user => format!("user:{}", caller.user),
        Role::Customer | Role::Viewer => return Err(Problem::new(Kind::Forbidden).detail("Viewers only look.")),
    };
    let order = snapshot.document;
    let refund_id = RefundId::derive(&order.order_id, &requested_by, &key);
    let is_operator = caller.role == Role::Operator;
    if !is_operator && wish.amount_fen.is_some() {
        return Err(Problem::new(Kind::AmountNotYours));
    }
    if is_operator && let Some(proposed) = by_two(api, context, caller, &order, &wish, &key).await? {
        return Ok(Taken::Override(proposed));
    }
    let requested_at = api.database_clock.now((api.now)()).unwrap_or_else(api.now);
    let asker = if is_operator { Asker::Operator } else { Asker::Customer(requested_at) };
    if let Some(known) = admit(api, &order, &refund_id, &wish, asker).await? {
        return Ok(Taken::Refund(known));
    }
    let message = RefundRequested {
        refund_id: refund_id.clone(),
        order_id: order.order_id.clone(),
        amount_fen: wish.amount_fen,
        reason: wish.reason,
        requested_by,
        requested_at: (!is_operator).then_some(requested_at),
        request_id: context.request_id.clone(),
    };
    let asked = Asked {
        order: order.order_id.as_str(),
        what: "POST /v1/orders/{id}/refunds",
        who: message.requested_by.clone(),
        started,
    };
    asked.noted(context, hand_over(api, Message::RefundRequested(message)).await)?;
    let status = RefundStatus::Requested;
    Ok(Taken::Refund(RefundReceipt { refund_id, order_id: order.order_id, status, amount_fen: wish.amount_fen }))
}

/// Who asks, with what decides about it.
#[derive(Clone, Copy)]
enum Asker {
    /// When they asked.
    Customer(OffsetDateTime),
    Operator,
}

/// The override that an operator's refund becomes, or became before by this key, when one person may not decide it.
async fn by_two(
    api: &Inner,
    context: &Context,
    caller: &Caller,
    order: &OrderDocument,
    wish: &Wish,
    key: &IdempotencyKey,
) -> Result<Option<OverrideDocument>, Problem> {
    let operator = caller.user.as_str();
    let proposal = Proposal {
        override_id: override_id(operator, key),
        order_id: order.order_id.clone(),
        action: OverrideAction::Refund,
        amount_fen: wish.amount_fen,
        receipt: None,
        reason: wish.reason.clone(),
        operator: operator.to_owned(),
        request_id: context.request_id.clone(),
    };
    let known = overrides::find(api.desk.pool(), proposal.override_id).await;
    match known.map_err(|error| Problem::from_store(&error))? {
        Some(known) if !proposal.is(&known) => return Err(Problem::new(Kind::IdempotencyKeyReused)),
        Some(_) => {}
        None => {
            let at_stake = overrides::refund_at_stake(&api.desk, &order.order_id, wish.amount_fen).await;
            let at_stake = at_stake.map_err(|error| Problem::from_store(&error))?;
            if at_stake.is_none_or(|at_stake| at_stake <= api.second_person) {
                return Ok(None);
            }
        }
    }
    let proposed = desk::propose(&api.desk, &api.publisher, &proposal, api.second_person).await;
    proposed.map(Some).map_err(refused)
}

/// Lets the wish in, or says why not. Gives the receipt of this very refund when it is in the books and the order
/// can bear no more: then there is nothing to publish.
async fn admit(
    api: &Inner,
    order: &OrderDocument,
    refund_id: &RefundId,
    wish: &Wish,
    asker: Asker,
) -> Result<Option<RefundReceipt>, Problem> {
    let asked = wish.asked();
    match api.cache.claim_refund(refund_id, &asked).await {
        Ok(Some(earlier)) if earlier != asked => return Err(Problem::new(Kind::IdempotencyKeyReused)),
        // What was let in once is not judged by an order that it may have changed itself.
        Ok(Some(_)) => return Ok(None),
        Ok(None) | Err(_) => {}
    }
    let judged = match (judge(order, wish, asker), asker) {
        (Ok(()), Asker::Customer(at)) => by_rules(api, order, at).await,
        (judged, Asker::Customer(_) | Asker::Operator) => judged,
    };
    let Err(refusal) = judged else {
        return Ok(None);
    };
    // Away: the same key will be refused with another body for a day; a new key helps.
    let _ = api.cache.withdraw_refund(refund_id).await;
    let stored = order_history::refund(api.database.pool(), refund_id).await;
    match stored.map_err(|error| Problem::from_store(&error))? {
        None => Err(refusal),
        Some(refund) if !wish.became(&refund) => Err(Problem::new(Kind::IdempotencyKeyReused)),
        Some(refund) => Ok(Some(RefundReceipt {
            refund_id: refund.refund_id,
            order_id: refund.order_id,
            status: refund.status,
            amount_fen: Some(refund.amount_fen),
        })),
    }
}

/// Refuses what the order shows to be hopeless. Refunds under way are not counted here: the books decide.
fn judge(order: &OrderDocument, wish: &Wish, asker: Asker) -> Result<(), Problem> {
    let left = order.amount_fen.checked_sub(order.refunded_fen).unwrap_or(Fen::ZERO);
    match order.status {
        Status::Confirmed => {}
        // A customer who took back a part has kept a part with the studio, which an operator may still give.
        Status::Refunding | Status::Refunded if matches!(asker, Asker::Operator) && left > Fen::ZERO => {}
        Status::Refunding | Status::Refunded => return Err(Problem::new(Kind::NothingLeft)),
        Status::Submitted
        | Status::Held
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired => return Err(Problem::new(Kind::NotPaid)),
    }
    if wish.amount_fen.is_some_and(|amount| amount > left) {
        let problem = format!("is more than the {} fen that are left", left.0);
        return Err(Problem::invalid(vec![FieldError { field: "amount_fen".into(), problem }]));
    }
    Ok(())
}

/// Refuses a customer to whom the session's rules give nothing back any more. Where nothing can be read, the worker judges.
async fn by_rules(api: &Inner, order: &OrderDocument, at: OffsetDateTime) -> Result<(), Problem> {
    match share(api, order, at).await {
        Ok(None) => Err(Problem::new(Kind::RefundNotAllowed)),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

/// What the order's customer would take back at this moment.
async fn share(api: &Inner, order: &OrderDocument, at: OffsetDateTime) -> Result<Option<Share>, StoreError> {
    let pool = api.database.pool();
    let left = refund_request::left(pool, &order.order_id).await?.unwrap_or(Fen::ZERO);
    let terms = refund_request::refund_terms(pool, order.schedule_id).await?;
    Ok(terms.and_then(|terms| terms.share(left, at)))
}

/// What a customer would take back now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefundPreview {
    #[schema(value_type = String)]
    order_id: OrderId,
    /// Whether the booking can be given back by its customer.
    allowed: bool,
    /// What would go back; 0 when nothing would.
    #[schema(value_type = i64, example = 20000)]
    amount_fen: Fen,
    /// Of what is still paid.
    percent: Option<u8>,
    /// Until when it is so much; null when it is not allowed, or never less.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<OffsetDateTime>,
    /// Why not: `not-paid`, `nothing-left`, `refund-not-allowed`.
    #[schema(example = "refund-not-allowed")]
    refusal: Option<&'static str>,
}

/// See what a refund would give back
///
/// To the order's customer, at this moment: what `POST` without an amount would come to. The booking ends with it.
#[utoipa::path(
    get, path = "/v1/orders/{id}/refunds/preview", tag = "refunds", security(("bearer" = ["owner", "viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "What would go back", body = RefundPreview),
        (status = 404, description = "`no-such-order`, for a customer also other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn preview(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RefundPreview>, Problem> {
    let order = visible_order(&api, &caller, &id, &[Role::Operator, Role::Viewer]).await?.document;
    let at = api.database_clock.now((api.now)()).unwrap_or_else(api.now);
    let wish = Wish { amount_fen: None, reason: String::new() };
    let (share, refusal) = match judge(&order, &wish, Asker::Customer(at)) {
        Err(problem) => (None, Some(problem.kind.slug())),
        Ok(()) => {
            let share = share(&api, &order, at).await.map_err(|error| Problem::from_store(&error))?;
            (share, share.is_none().then(|| Kind::RefundNotAllowed.slug()))
        }
    };
    Ok(Json(RefundPreview {
        order_id: order.order_id,
        allowed: share.is_some(),
        amount_fen: share.map_or(Fen::ZERO, |share| share.amount_fen),
        percent: share.map(|share| share.percent),
        until: share.and_then(|share| share.until),
        refusal,
    }))
}

/// List an order's refunds
///
/// Newest first. A refund that no worker has taken yet is not in it.
#[utoipa::path(
    get, path = "/v1/orders/{id}/refunds", tag = "refunds", security(("bearer" = ["owner", "viewer", "operator"])),
    params(
        ("id" = String, Path),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of them", body = Page<RefundDocument>),
        (status = 404, description = "`no-such-order`, for a customer also other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<RefundDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", |value| {
        let place = Place::parse(text(value)?)?;
        let refund_id = RefundId::try_from(place.id).map_err(|_| "is not a cursor of this list")?;
        Ok::<_, &str>(RefundCursor { created_at: place.at, refund_id })
    });
    fields.finish()?;
    let order = visible_order(&api, &caller, &id, &[Role::Operator, Role::Viewer]).await?.document.order_id;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let refunds = order_history::refunds(api.database.pool(), &order, after.as_ref(), limit)
        .await
        .map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::cut(refunds, |refund: &RefundDocument| Place {
        at: refund.created_at,
        id: refund.refund_id.to_string(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn s5_4_a_reason_fits_into_wechats_eighty_bytes() {
        let reason = |value: &serde_json::Value| refund_reason(text(value).map_err(Malformed)?);
        assert_eq!(reason(&json!(" 时间不合适 ")).as_deref(), Ok("时间不合适"));
        assert!(reason(&json!("课".repeat(26))).is_ok());
        for wrong in [json!(""), json!("  "), json!("课".repeat(27)), json!("a\nb"), json!(7)] {
            assert!(reason(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s5_4_an_amount_is_whole_fen_above_nothing() {
        assert_eq!(amount_fen(&json!(1)), Ok(Fen(1)));
        for wrong in [json!(0), json!(-1), json!(1.5), json!("100"), json!(true), json!(1e30)] {
            assert!(amount_fen(&wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn two_wishes_under_one_key_are_told_apart(a in 0i64..30, b in 0i64..30, x in "[a 1]{1,3}", y in "[a 1]{1,3}") {
            let wish = |fen: i64, reason: &String| Wish {
                amount_fen: (fen > 0).then_some(Fen(fen)),
                reason: reason.clone(),
            };
            let (one, other) = (wish(a, &x), wish(b, &y));
            prop_assert_eq!(one.asked() == other.asked(), one == other);
        }
    }
}
