//! `GET /v1/ops/orders`: any customer's orders, found by what a person can name.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        Api, Inner,
        auth::Viewer,
        fields::{Fields, text},
        paging::{PAGE, Page, Place},
        problem::{Problem, ProblemDocument},
    },
    domain::{
        document::{OrderDocument, Snapshot},
        ids::{OrderId, UserId},
    },
    store::{self, order::OrderCursor, order_search},
};

/// An order and whose it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnedOrder {
    #[schema(value_type = String)]
    user_id: UserId,
    #[serde(flatten)]
    order: OrderDocument,
}

impl From<Snapshot> for OwnedOrder {
    fn from(snapshot: Snapshot) -> Self {
        Self { user_id: snapshot.owner, order: snapshot.document }
    }
}

/// Search orders
///
/// By the order's id, a customer's id, WeChat's `transaction_id`, or a refund's number, ours or WeChat's. Without
/// `text`: those that moved last.
#[utoipa::path(
    get, path = "/v1/ops/orders", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(
        ("text" = Option<String>, Query, description = "An id or number, whole"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of orders; a customer's newest first", body = Page<OwnedOrder>),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<OwnedOrder>>, Problem> {
    let mut fields = Fields::of_query(query);
    let wanted = fields.optional("text", searchable);
    let after = fields.optional("cursor", |value| {
        let place = Place::parse(text(value)?)?;
        let order_id = OrderId::try_from(place.id).map_err(|_| "is not a cursor of this list")?;
        Ok::<_, &str>(OrderCursor { created_at: place.at, order_id })
    });
    fields.finish()?;
    match wanted {
        None => Ok(Json(Page::whole(moved_last(&api).await?))),
        Some(wanted) => search(&api, wanted, after.as_ref()).await.map(Json),
    }
}

/// What an id can be; nothing else is in the books.
fn searchable(value: &serde_json::Value) -> Result<UserId, &'static str> {
    UserId::try_from(text(value)?.trim().to_owned()).map_err(|_| "must be 1 to 128 visible ASCII characters")
}

async fn moved_last(api: &Inner) -> Result<Vec<OwnedOrder>, Problem> {
    let limit = i64::try_from(PAGE).expect("a page is small");
    let ids = order_search::moved_last(api.desk.pool(), limit).await;
    in_order(api, &ids.map_err(|error| Problem::from_store(&error))?).await
}

async fn search(api: &Inner, wanted: UserId, after: Option<&OrderCursor>) -> Result<Page<OwnedOrder>, Problem> {
    let refused = |error| Problem::from_store(&error);
    let pool = api.desk.pool();
    if after.is_none() {
        let ids = order_search::by_number(pool, wanted.as_str()).await.map_err(refused)?;
        if !ids.is_empty() {
            return Ok(Page::whole(in_order(api, &ids).await?));
        }
    }
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let orders = store::order::of_user(pool, &wanted, after, limit).await.map_err(refused)?;
    let orders = orders.into_iter().map(OwnedOrder::from).collect();
    Ok(Page::cut(orders, |owned: &OwnedOrder| Place {
        at: owned.order.created_at,
        id: owned.order.order_id.to_string(),
    }))
}

async fn in_order(api: &Inner, ids: &[OrderId]) -> Result<Vec<OwnedOrder>, Problem> {
    let snapshots = store::order::snapshots(api.desk.pool(), ids).await.map_err(|error| Problem::from_store(&error))?;
    let mut found: HashMap<OrderId, Snapshot> =
        snapshots.into_iter().map(|snapshot| (snapshot.document.order_id.clone(), snapshot)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).map(OwnedOrder::from).collect())
}
