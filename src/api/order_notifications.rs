//! `GET /v1/orders/{id}/notifications`: which WeChat messages an order led to, and how far each got.

use axum::{
    Json,
    extract::{Path, State},
};

use super::{
    Api,
    auth::Caller,
    order_follow::own_order,
    paging::Page,
    problem::{Problem, ProblemDocument},
};
use crate::{domain::history::NotificationDocument, store::order_history};

/// List an order's messages
///
/// Newest first; at most one of each kind. `uncertain` means that WeChat's answer was lost and cannot be had any more.
#[utoipa::path(
    get, path = "/v1/orders/{id}/notifications", tag = "orders", security(("bearer" = ["owner"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "All of them; `next` is always null", body = Page<NotificationDocument>),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Page<NotificationDocument>>, Problem> {
    let order = own_order(&api, &caller, &id).await?.document.order_id;
    let messages =
        order_history::notifications(api.database.pool(), &order).await.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::whole(messages)))
}
