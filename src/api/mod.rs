//! The ingress: what frontends and WeChat talk to. The only place with axum.
//!
//! A write is authenticated, parsed, published with a confirm and answered; it touches neither PostgreSQL nor
//! WeChat. Reads come from Redis, else from PostgreSQL. The whole surface is [`router`], one file per resource.

mod auth;
mod docs;
mod fields;
mod headers;
pub mod health;
mod language;
mod names;
mod order_events;
mod order_follow;
mod order_qr;
mod order_submit;
mod orders;
mod page;
mod paging;
mod problem;
mod problem_page;
mod request;
mod schedules;
pub mod serve;
mod settings;
mod wechat_notify;

use std::sync::Arc;

use axum::{Router, middleware, routing::{get, post}};
use metrics_exporter_prometheus::PrometheusHandle;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use auth::{AuthFault, AuthKeys, AuthSettings, Role, TokenAlgorithm};
pub use names::describe_metrics;
pub use schedules::keep_catalogue;
pub use settings::ApiSettings;

use crate::{
    broker::Publisher,
    cache::{Cache, hub::OrderHub, rate::RateLimit},
    store::Database,
    wechat::notification::NotificationKeys,
};

/// What the handlers share.
pub struct Inner {
    pub settings: ApiSettings,
    /// In front of every order id; tells environments apart that share a merchant number.
    pub order_id_prefix: String,
    pub publisher: Publisher,
    pub database: Database,
    pub cache: Cache,
    pub hub: OrderHub,
    pub auth: AuthKeys,
    pub wechat: Arc<NotificationKeys>,
    pub limits: Limits,
    pub metrics: PrometheusHandle,
    pub now: fn() -> OffsetDateTime,
    pub random: fn() -> [u8; 24],
    /// Cancelled when the process begins to stop: event streams end, everything else finishes.
    pub stop: CancellationToken,
}

pub type Api = Arc<Inner>;

/// How much is done at once and how fast.
pub struct Limits {
    in_flight: Semaphore,
    event_streams: Arc<Semaphore>,
    orders: RateLimit,
}

impl Limits {
    pub fn new(settings: &ApiSettings) -> Self {
        Self {
            in_flight: Semaphore::new(settings.requests_max),
            event_streams: Arc::new(Semaphore::new(settings.event_streams_max)),
            orders: RateLimit::new("order-rate", settings.orders_per_second, settings.orders_burst),
        }
    }
}

/// Every address there is.
pub fn router(api: Api) -> Router {
    let (documented, openapi) = documented().split_for_parts();
    let openapi = docs::complete(openapi, &api.settings);

    let pages = Router::new()
        .route("/", get(page::index))
        .route("/assets/{*path}", get(page::asset))
        .route("/docs", get(docs::page))
        .route("/openapi.json", get(move || docs::openapi_json(openapi.clone())))
        .route("/problems", get(problem_page::all))
        .route("/problems/{slug}", get(problem_page::one))
        .layer(CompressionLayer::new());

    let mut router = documented.merge(pages);
    if api.settings.development {
        router = router.route("/dev/token", post(page::development_token));
    }
    router
        .merge(health::router(health::of_api(&api)))
        .fallback(request::nothing_here)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(api.clone(), request::enter))
        .with_state(api)
}

/// The part of the surface that `/openapi.json` describes.
fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::availability))
        .routes(routes!(order_submit::submit, orders::list))
        .routes(routes!(orders::one))
        .routes(routes!(order_events::events))
        .routes(routes!(order_qr::svg))
        .routes(routes!(order_qr::png))
        .routes(routes!(wechat_notify::payments))
        .routes(routes!(wechat_notify::refunds))
}
