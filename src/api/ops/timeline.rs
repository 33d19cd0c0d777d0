//! `GET /v1/ops/orders/{id}/timeline`: the whole story of one order.

use axum::{
    Json,
    extract::{Path, State},
};

use super::super::{
    Api,
    auth::Viewer,
    order_follow::order_id,
    problem::{Kind, Problem, ProblemDocument},
};
use crate::{domain::timeline::Timeline, store};

/// Explain an order
///
/// One timeline of requests, messages, calls to WeChat, callbacks, changes of status, refunds, messages to the customer
/// and operators' decisions; what it waits for, what happens next by itself, and what would have to happen for each
/// other ending. What is not in the order's own tables (requests, messages, calls) is kept for some months, and may lack
/// its last seconds.
#[utoipa::path(
    get, path = "/v1/ops/orders/{id}/timeline", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The story", body = Timeline),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-order`: no worker has taken one of this number", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Timeline>, Problem> {
    let story = store::timeline::read(&api.desk, &order_id(&id)?).await;
    let story = story.map_err(|error| Problem::from_store(&error))?;
    story.map(Json).ok_or_else(|| Problem::new(Kind::NoSuchOrder))
}
