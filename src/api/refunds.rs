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
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api, Inner,
    auth::{Caller, Role},
    fields::{self, Fields, text},
    hand_over::{counted, hand_over, pace},
    headers::idempotency_key,
    noted::Asked,
    order_follow::visible_order,
    paging::{PAGE, Page, Place},
    problem::{FieldError, Kind, Problem, ProblemDocument},
    request::Context,
};
use crate::{
    domain::{
        document::OrderDocument,
        history::RefundDocument,
        ids::{OrderId, RefundId},
        message::{Message, RefundRequested},
        money::Fen,
        order::Status,
        refund::RefundStatus,
    },
    store::order_history::{self, RefundCursor},
};

const BODY_BYTES_MAX: usize = 4 * 1024;
/// WeChat Pay, refund request: `reason` has at most 80 bytes.
const REASON_BYTES_MAX: usize = 80;

/// What is to go back.
#[derive(Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = RefundRequest)]
pub(super) struct Wish {
    /// All that is left when left out.
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
        let reason = fields.required("reason", reason);
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

fn amount_fen(value: &Value) -> Result<Fen, &'static str> {
    value.as_i64().filter(|fen| *fen > 0).map(Fen).ok_or("must be a whole number of fen above 0")
}

fn reason(value: &Value) -> Result<String, &'static str> {
    let reason = text(value)?.trim();
    if !(1..=REASON_BYTES_MAX).contains(&reason.len()) {
        return Err("must have 1 to 80 bytes");
    }
    if reason.contains(char::is_control) {
        return Err("must be one line without control characters");
    }
    Ok(reason.to_owned())
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

/// Ask for a refund
///
/// Of all that is left, or of a part. The refund's id is a pure function of order, requester and `Idempotency-Key`:
/// repeating a request gives the same refund and never a second one. A whole refund frees the seat at once.
#[utoipa::path(
    post, path = "/v1/orders/{id}/refunds", tag = "refunds", security(("bearer" = ["owner", "operator"])),
    request_body(content = Wish, content_type = "application/json", example = json!({"reason": "课程时间不合适"})),
    params(
        ("id" = String, Path),
        ("Idempotency-Key" = String, Header, description = "Your name for this wish: 1–255 visible ASCII characters", example = "my-first-refund"),
    ),
    responses(
        (status = 202, description = "In the line; what becomes of it is at `Location`", body = RefundReceipt, headers(("Location" = String))),
        (status = 400, description = "`unreadable`, `idempotency-key-missing`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: a viewer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-order`, for a customer also other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`not-paid`, `nothing-left`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request` with every wrong field, more than is left included; `idempotency-key-reused`", body = ProblemDocument, content_type = "application/problem+json"),
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
) -> Result<RefundReceipt, Problem> {
    counted("refund.requested", take(&api, &context, &caller, &id, &headers, body).await)
}

async fn take(
    api: &Inner,
    context: &Context,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<RefundReceipt, Problem> {
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
    if let Some(known) = admit(api, &order, &refund_id, &wish).await? {
        return Ok(known);
    }
    let message = RefundRequested {
        refund_id: refund_id.clone(),
        order_id: order.order_id.clone(),
        amount_fen: wish.amount_fen,
        reason: wish.reason,
        requested_by,
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
    Ok(RefundReceipt { refund_id, order_id: order.order_id, status, amount_fen: wish.amount_fen })
}

/// Lets the wish in, or says why not. Gives the receipt of this very refund when it is in the books and the order
/// can bear no more: then there is nothing to publish.
async fn admit(
    api: &Inner,
    order: &OrderDocument,
    refund_id: &RefundId,
    wish: &Wish,
) -> Result<Option<RefundReceipt>, Problem> {
    let asked = wish.asked();
    match api.cache.claim_refund(refund_id, &asked).await {
        Ok(Some(earlier)) if earlier != asked => return Err(Problem::new(Kind::IdempotencyKeyReused)),
        // What was let in once is not judged by an order that it may have changed itself.
        Ok(Some(_)) => return Ok(None),
        Ok(None) | Err(_) => {}
    }
    let Err(refusal) = judge(order, wish) else {
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
fn judge(order: &OrderDocument, wish: &Wish) -> Result<(), Problem> {
    match order.status {
        Status::Confirmed => {}
        Status::Refunding | Status::Refunded => return Err(Problem::new(Kind::NothingLeft)),
        Status::Submitted
        | Status::Held
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired => return Err(Problem::new(Kind::NotPaid)),
    }
    let left = order.amount_fen.checked_sub(order.refunded_fen).unwrap_or(Fen::ZERO);
    if wish.amount_fen.is_some_and(|amount| amount > left) {
        let problem = format!("is more than the {} fen that are left", left.0);
        return Err(Problem::invalid(vec![FieldError { field: "amount_fen".into(), problem }]));
    }
    Ok(())
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
