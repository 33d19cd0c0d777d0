//! `GET /v1/orders` and `GET /v1/orders/{id}`: a customer's own orders.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Api,
    auth::Caller,
    fields::{Fields, text},
    headers::{PREFERENCE_APPLIED, Wait},
    order_follow::{Follow, order_id, own_order},
    order_look,
    paging::{PAGE, Page, Place},
    problem::{Problem, ProblemDocument},
};
use crate::{
    domain::{document::OrderDocument, ids::OrderId},
    store::{self, order::OrderCursor},
};

/// List your orders
///
/// Newest first. Orders that no worker has taken yet are not in it.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "A page of your orders", body = Page<OrderDocument>),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<OrderDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", |value| {
        let place = Place::parse(text(value)?)?;
        let order_id = OrderId::try_from(place.id).map_err(|_| "is not a cursor of this list")?;
        Ok::<_, &str>(OrderCursor { created_at: place.at, order_id })
    });
    fields.finish()?;
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let orders = store::order::of_user(api.database.pool(), &caller.user, after.as_ref(), limit)
        .await
        .map_err(|error| Problem::from_store(&error))?;
    let documents = orders.into_iter().map(|snapshot| snapshot.document).collect();
    Ok(Json(Page::cut(documents, |order: &OrderDocument| Place {
        at: order.created_at,
        id: order.order_id.to_string(),
    })))
}

/// Read an order
///
/// While it can be paid, your look also makes us ask WeChat from time to time, in case its callback got lost.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders", security(("bearer" = ["owner"])),
    params(
        ("id" = String, Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N (at most 10) seconds for the next change"),
    ),
    responses(
        (status = 200, description = "The order as it is now", body = OrderDocument),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let mut follow = Follow::begin(&api, order_id(&id)?, caller.user.clone());
    let mut document = own_order(&api, &caller, &id).await?.document;
    follow.has_seen(&document);
    order_look::looked(&api, &document);
    let Some(wait) = Wait::wished(&headers) else {
        return Ok(Json(document).into_response());
    };
    if let Ok(next) = timeout_at(started + wait.duration(), follow.next()).await {
        document = next.document;
    }
    Ok(([(PREFERENCE_APPLIED, wait.applied())], Json(document)).into_response())
}
