//! The ingress: what frontends and WeChat talk to. The only place with axum.
//!
//! A write is authenticated, parsed, published with a confirm and answered; it touches neither PostgreSQL nor
//! WeChat. Reads come from Redis, else from PostgreSQL. The whole surface is [`router`], one file per resource.

pub mod access;
mod addresses;
pub mod auth;
pub mod database_clock;
mod docs;
mod event_stream;
mod fields;
mod forms;
mod hand_over;
mod headers;
mod heads;
pub mod health;
mod language;
mod links;
mod me;
mod names;
mod networks;
mod noted;
mod ops;
mod order_cancel;
mod order_events;
mod order_follow;
mod order_look;
mod order_notifications;
mod order_qr;
pub mod order_request;
mod order_submit;
mod orders;
mod page;
pub(crate) mod paging;
pub mod problem;
mod problem_page;
mod refunds;
mod request;
mod schedules;
mod seldom;
pub mod serve;
mod settings;
mod tls;
mod waitlist;
mod wechat_notify;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use axum::{Router, http::HeaderMap, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use auth::{AuthKeys, AuthSettings, Role};
pub use settings::ApiSettings;

use access::Open;
use addresses::AddressLimit;
use seldom::Seldom;

use crate::{
    broker::{Broker, Publisher},
    cache::{Cache, hub::OrderHub, rate::RateLimit},
    dead_letters::DeadLetters,
    domain::{money::Fen, schedule::Price, session_rules::DefaultRules},
    store::{Database, payment::Merchant, sealed::PersonalKeys},
    tokens::Tokens,
    wechat::{account::PayAccount, exchange::PayClient},
};
use database_clock::DatabaseClock;

/// What the process gives the API to work with.
pub struct ApiParts {
    pub settings: ApiSettings,
    /// Checks tokens; the process keeps its keys fresh.
    pub auth: Arc<Tokens>,
    /// In front of every order id; tells environments apart that share a merchant number.
    pub order_id_prefix: String,
    /// Above it an operator's decision waits for a second operator.
    pub second_person: Fen,
    /// Of a session that is added without a price.
    pub price: Price,
    /// Of a session that is added without its own.
    pub rules: DefaultRules,
    pub broker: Broker,
    /// For customers and WeChat: nothing of theirs is written from here.
    pub database: Database,
    /// For `/v1/ops`, whose decisions are written at once; where it is another role, only that one may.
    pub desk: Database,
    pub cache: Cache,
    /// Read again with the catalogue.
    pub database_clock: Arc<DatabaseClock>,
    pub account: Arc<PayAccount>,
    /// For operators who want WeChat's word; no customer's request waits for it.
    pub wechat: Arc<PayClient>,
    /// Seals what the catalogue of dead letters keeps.
    pub personal: Arc<PersonalKeys>,
    pub metrics: PrometheusHandle,
    /// Where health and metrics are told, apart from customers.
    pub health: SocketAddr,
    /// Set once the broker is known to have every queue that orders and callbacks go to.
    pub topology_checked: Arc<AtomicBool>,
    /// Cancelled when the process begins to stop: event streams end, everything else finishes.
    pub stop: CancellationToken,
}

/// What the handlers share.
struct Inner {
    settings: ApiSettings,
    /// In front of every order id; tells environments apart that share a merchant number.
    order_id_prefix: String,
    second_person: Fen,
    price: Price,
    rules: DefaultRules,
    publisher: Publisher,
    /// For questions about queues; the ingress consumes nothing.
    broker: Broker,
    overviews: ops::Overviews,
    database: Database,
    desk: Database,
    cache: Cache,
    hub: OrderHub,
    auth: Arc<Tokens>,
    account: Arc<PayAccount>,
    wechat: Arc<PayClient>,
    dead_letters: DeadLetters,
    limits: Limits,
    metrics: PrometheusHandle,
    topology_checked: Arc<AtomicBool>,
    database_clock: Arc<DatabaseClock>,
    now: fn() -> OffsetDateTime,
    random: fn() -> [u8; 24],
    stop: CancellationToken,
}

type Api = Arc<Inner>;

impl Inner {
    fn new(parts: ApiParts) -> Self {
        let merchant = Merchant { mchid: parts.account.mchid.clone(), appid: parts.account.appid.clone() };
        Self {
            dead_letters: DeadLetters {
                db: parts.desk.clone(),
                broker: parts.broker.clone(),
                personal: parts.personal,
                merchant,
            },
            wechat: parts.wechat,
            order_id_prefix: parts.order_id_prefix,
            publisher: parts.broker.publisher.clone(),
            broker: parts.broker,
            overviews: ops::Overviews::default(),
            second_person: parts.second_person,
            price: parts.price,
            rules: parts.rules,
            database: parts.database,
            desk: parts.desk,
            hub: OrderHub::start(parts.cache.clone()),
            cache: parts.cache,
            auth: parts.auth,
            account: parts.account,
            limits: Limits::new(&parts.settings),
            metrics: parts.metrics,
            topology_checked: parts.topology_checked,
            database_clock: parts.database_clock,
            now: OffsetDateTime::now_utc,
            random,
            stop: parts.stop,
            settings: parts.settings,
        }
    }
}

fn random() -> [u8; 24] {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random numbers do not run out");
    bytes
}

/// How much is done at once and how fast.
struct Limits {
    in_flight: Semaphore,
    event_streams: Arc<Semaphore>,
    /// Callbacks of unusual size.
    large_callbacks: Semaphore,
    /// Reading all the books is work for PostgreSQL: one at a time.
    verifying: Arc<Semaphore>,
    orders: RateLimit,
    addresses: AddressLimit,
    refused_callbacks: Seldom,
}

impl Limits {
    fn new(settings: &ApiSettings) -> Self {
        Self {
            in_flight: Semaphore::new(settings.requests_max),
            event_streams: Arc::new(Semaphore::new(settings.event_streams_max)),
            large_callbacks: Semaphore::new(wechat_notify::LARGE_BODIES_MAX),
            verifying: Arc::new(Semaphore::new(1)),
            orders: RateLimit::new("order-rate", settings.orders_per_second, settings.orders_burst),
            addresses: AddressLimit::new(settings),
            refused_callbacks: Seldom::default(),
        }
    }
}

/// Every address on the customers' port.
fn routes(api: Api) -> Router {
    let (documented, openapi) = documented().split_for_parts();
    let openapi = docs::Prebuilt::new(&docs::complete(openapi, &api.settings));
    let pages = pages(openapi).router.layer(CompressionLayer::new());
    let mut router = documented.merge(pages);
    if api.settings.development {
        router = router.merge(development().router);
    }
    router
        .fallback(request::nothing_here)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(api.clone(), request::enter))
        .with_state(api)
}

/// Pages and files.
fn pages(openapi: docs::Prebuilt) -> Open {
    Open::default()
        .get("/", page::booking)
        .get("/console", page::console)
        .get("/assets/{*path}", page::asset)
        .get("/docs", docs::page)
        .get("/openapi.json", async move |headers: HeaderMap| openapi.answer(&headers))
        .get("/problems", problem_page::all)
        .get("/problems/{slug}", problem_page::one)
}

/// There only with `api.development`.
fn development() -> Open {
    Open::default().post("/dev/token", page::development_token)
}

/// The part of the surface that `/openapi.json` describes.
fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::one))
        .routes(routes!(schedules::availability))
        .routes(routes!(me::one))
        .routes(routes!(order_submit::submit, orders::list))
        .routes(routes!(orders::one))
        .routes(routes!(order_events::events))
        .routes(routes!(order_qr::svg))
        .routes(routes!(order_qr::png))
        .routes(routes!(order_cancel::cancel))
        .routes(routes!(refunds::request, refunds::list))
        .routes(routes!(refunds::preview))
        .routes(routes!(order_notifications::list))
        .routes(routes!(waitlist::join, waitlist::leave, waitlist::place))
        .routes(routes!(wechat_notify::payments))
        .routes(routes!(wechat_notify::refunds))
        .merge(ops::documented())
}
