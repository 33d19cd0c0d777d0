//! `GET /v1/ops/money-in-doubt`: what WeChat took and what is at this moment neither a seat's, nor back, nor a case's.

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        Api,
        auth::Viewer,
        fields::{Fields, text},
        paging::{PAGE, Page, Place},
        problem::{Problem, ProblemDocument},
    },
    domain::ids::OrderId,
    store::{
        self,
        doubt::{Doubt, Total},
    },
};

/// The sum, and a page of the orders it is about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DoubtList {
    items: Vec<Doubt>,
    /// Where the next page begins: give it back as `cursor`; null on the last page.
    next: Option<String>,
    /// Of all pages.
    total: Total,
}

/// List money in doubt
///
/// Longest in doubt first. In quiet times: refunds that WeChat has not finished.
#[utoipa::path(
    get, path = "/v1/ops/money-in-doubt", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "The sum and a page of orders", body = DoubtList),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<DoubtList>, Problem> {
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", |value| {
        let place = Place::parse(text(value)?)?;
        let order = OrderId::try_from(place.id).map_err(|_| "is not a cursor of this list")?;
        Ok::<_, &str>((place.at, order))
    });
    fields.finish()?;
    let refused = |error| Problem::from_store(&error);
    let pool = api.desk.pool();
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let doubts = store::doubt::list(pool, after.as_ref(), limit).await.map_err(refused)?;
    let total = store::doubt::total(pool).await.map_err(refused)?;
    let page = Page::cut(doubts, |doubt| Place { at: doubt.since, id: doubt.order_id.to_string() });
    let (items, next) = page.into_parts();
    Ok(Json(DoubtList { items, next, total }))
}
