//! `POST /v1/orders/{id}/cancel`: the customer does not want the order any more.

use std::time::Instant;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api, Inner,
    auth::Caller,
    hand_over::{counted, hand_over, pace},
    noted::Asked,
    order_follow::own_order,
    order_submit::location,
    problem::{Kind, Problem, ProblemDocument},
    request::Context,
};
use crate::domain::{
    ids::OrderId,
    message::{Message, OrderCancel},
    order::Status,
};

/// The wish to cancel is in the line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelReceipt {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab")]
    order_id: OrderId,
    /// As it is now; `cancelled` follows once WeChat has closed the order.
    status: Status,
}

/// Cancel an order
///
/// An unpaid order is closed at WeChat before its seat goes to others. If it turns out to be paid after all, the
/// payment stands. Repeating this is harmless.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", tag = "orders", security(("bearer" = ["owner"])),
    params(("id" = String, Path)),
    responses(
        (status = 202, description = "In the line, or cancelled already; the outcome is at `Location`", body = CancelReceipt, headers(("Location" = String))),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`already-paid`, with the address of its refunds in `instead`; `already-ended`: rejected or expired", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-requests`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
        (status = 503, description = "`broker-unavailable`, `temporarily-unavailable`: repeat", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    counted("order.cancel", take(&api, &context, caller, &id).await)
}

async fn take(api: &Inner, context: &Context, caller: Caller, id: &str) -> Result<Response, Problem> {
    let started = Instant::now();
    pace(api, &caller).await?;
    let order = own_order(api, &caller, id).await?.document;
    match order.status {
        Status::Submitted | Status::Held | Status::AwaitingPayment | Status::Lapsed => {
            let message = OrderCancel {
                order_id: order.order_id.clone(),
                user_id: caller.user,
                requested_by: None,
                request_id: context.request_id.clone(),
            };
            let asked = Asked {
                order: order.order_id.as_str(),
                what: "POST /v1/orders/{id}/cancel",
                who: format!("user:{}", message.user_id),
                started,
            };
            asked.noted(context, hand_over(api, Message::OrderCancel(message)).await)?;
        }
        Status::Cancelled => {}
        Status::Confirmed | Status::Refunding | Status::Refunded => {
            return Err(Problem::new(Kind::AlreadyPaid).instead(format!("/v1/orders/{}/refunds", order.order_id)));
        }
        Status::Rejected | Status::Expired => {
            let words = format!("The order is {}.", order.status.as_str());
            return Err(Problem::new(Kind::AlreadyEnded).detail(words));
        }
    }
    let location = location(&order.order_id);
    let receipt = CancelReceipt { order_id: order.order_id, status: order.status };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(receipt)).into_response())
}
