//! `POST /v1/ops/orders/{id}/wechat-refunds`: a refund that staff made in the merchant platform is taken into the books.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::{
    Api,
    auth::Operator,
    fields::{self, sentence, text},
    order_follow::order_id,
    problem::{FieldError, Kind, Problem, ProblemDocument},
};
use crate::{
    desk::refunds_at_wechat::{NUMBER_MAX, RefundAtWechat, Refusal, number, take_in},
    domain::message::TakenIn,
};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// The refund, by the number that the merchant platform shows.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RefundToTakeIn)]
pub(in crate::api) struct Wish {
    /// 商户退款单号, 1 to 64 visible ASCII characters.
    #[schema(min_length = 1, max_length = 64, example = "50300000382019052709732678859")]
    out_refund_no: String,
    /// Who refunded and why: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Take in a refund that WeChat made without us
///
/// WeChat is asked about the number; its signed answer goes into the order's books: it counts against what is left, and the
/// seat is free when all is gone. Repeating it changes nothing.
#[utoipa::path(
    post, path = "/v1/ops/orders/{id}/wechat-refunds", tag = "operators", security(("bearer" = ["operator"])),
    params(("id" = String, Path)),
    request_body(content = Wish, content_type = "application/json"),
    responses(
        (status = 202, description = "WeChat knows it; it is on its way into the books", body = RefundAtWechat),
        (status = 400, description = "`unreadable`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-order`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`; also when WeChat has no such refund of this order", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`broker-unavailable`, `temporarily-unavailable`: WeChat or a server did not answer", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn take(
    State(api): State<Api>,
    Operator(operator): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<RefundAtWechat>), Problem> {
    let mut fields = fields::json_object(&headers, body, BODY_BYTES_MAX).await?;
    let out_refund_no = fields.required("out_refund_no", |value| number(text(value)?));
    let reason = fields.required("reason", sentence);
    fields.finish()?;
    let wish = out_refund_no.zip(reason).map(|(out_refund_no, reason)| Wish { out_refund_no, reason });
    let Wish { out_refund_no, reason } = wish.ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    debug_assert!(out_refund_no.len() <= NUMBER_MAX);
    let taken_in = TakenIn { operator: format!("operator:{}", operator.user), reason };
    let taken = take_in(&api.desk, &api.wechat, &api.publisher, &order_id(&id)?, &out_refund_no, taken_in).await;
    taken.map(|document| (StatusCode::ACCEPTED, Json(document))).map_err(|refusal| match refusal {
        Refusal::NoSuchOrder => Problem::new(Kind::NoSuchOrder),
        Refusal::NotAtWechat | Refusal::OtherOrder(_) => {
            let problem = refusal.to_string();
            Problem::invalid(vec![FieldError { field: "out_refund_no".into(), problem }])
        }
        Refusal::Unclear | Refusal::Doubt(_) => {
            Problem::new(Kind::TemporarilyUnavailable).detail("WeChat did not give an answer that can be believed.")
        }
        Refusal::Publish(_) => Problem::new(Kind::BrokerUnavailable),
        Refusal::Store(error) => Problem::from_store(&error),
    })
}
