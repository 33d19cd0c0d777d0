//! Whether a process lives, whether it can work, and what it counts. The same for the API and for workers.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, json};
use tokio::net::TcpListener;

use super::Api;
use crate::{
    broker::{Broker, pulse::Pulses},
    cache::Cache,
    store::Database,
};

/// A server that has not answered by then is away.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// One thing the process depends on.
pub struct Check {
    pub name: &'static str,
    /// Whether the process is unready without it; otherwise it works on, more slowly or in part.
    pub needed: bool,
    probe: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

impl Check {
    pub fn new<F>(name: &'static str, needed: bool, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self { name, needed, probe: Box::new(move || Box::pin(probe())) }
    }
}

/// What `/readyz` and `/metrics` tell of a process.
pub struct Health {
    pub checks: Vec<Check>,
    /// The process's consumers: each that waits for an outage to end says which.
    pub consumers: Pulses,
    pub metrics: PrometheusHandle,
}

/// Whoever can reach the port may ask; keep it inside.
const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// [`PATHS`].
fn router<S: Clone + Send + Sync + 'static>(health: Health) -> Router<S> {
    let health = Arc::new(health);
    let checked = health.clone();
    let [alive, ready, metrics] = PATHS;
    Router::new()
        .route(alive, get(|| async { Json(json!({"status": "alive"})) }))
        .route(ready, get(move || async move { readiness(&checked.checks, &checked.consumers).await }))
        .route(metrics, get(move || async move { exposition(&health.metrics) }))
}

async fn readiness(checks: &[Check], consumers: &Pulses) -> Response {
    let answers = join_all(checks.iter().map(|check| tokio::time::timeout(PROBE_LIMIT, (check.probe)()))).await;
    let mut all_needed = true;
    let mut dependencies = Map::new();
    for (check, answer) in checks.iter().zip(answers) {
        let here = answer.unwrap_or(false);
        all_needed &= here || !check.needed;
        dependencies.insert(check.name.into(), if here { "ok" } else { "away" }.into());
    }
    let waits: Map<_, _> =
        consumers.read().into_iter().filter_map(|reading| Some((reading.queue, reading.waits_for?.into()))).collect();
    let (status, word) = if all_needed && waits.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    (status, Json(json!({"status": word, "dependencies": dependencies, "waits": waits}))).into_response()
}

fn exposition(metrics: &PrometheusHandle) -> Response {
    metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

/// What a process may depend on.
pub struct Dependencies {
    pub database: Database,
    pub broker: Broker,
    pub cache: Cache,
}

/// Answers [`PATHS`] at `listen`, and nothing else, for as long as the process lives; tells the address.
///
/// # Errors
/// The address cannot be used.
pub(super) async fn serve_at(listen: SocketAddr, health: Health) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router::<()>(health)).await });
    Ok(address)
}

/// Serves a worker's health on an address of its own for as long as the process lives; tells the address.
///
/// # Errors
/// The address cannot be used.
pub async fn serve_alone(
    listen: SocketAddr,
    dependencies: Dependencies,
    metrics: PrometheusHandle,
) -> std::io::Result<SocketAddr> {
    let Dependencies { database, broker, cache } = dependencies;
    let consumers = broker.pulses.clone();
    let checks = vec![
        Check::new("broker", true, move || ready(broker.is_ready())),
        database_check(database, true),
        cache_check(cache),
    ];
    serve_at(listen, Health { checks, consumers, metrics }).await
}

/// What the API depends on. Only the broker and WeChat's keys are needed: orders and callbacks are taken while
/// PostgreSQL is away, and a process that is taken out of the line for it would take none.
pub(super) fn of_api(api: &Api) -> Health {
    let (publisher, account) = (api.publisher.clone(), api.account.clone());
    let topology_checked = api.topology_checked.clone();
    let checks = vec![
        Check::new("broker", true, move || ready(publisher.is_ready())),
        Check::new("topology", true, move || ready(topology_checked.load(Ordering::Relaxed))),
        Check::new("wechat_keys", true, move || ready(!account.keys.platform.serials().is_empty())),
        database_check(api.database.clone(), false),
        cache_check(api.cache.clone()),
    ];
    Health { checks, consumers: Pulses::default(), metrics: api.metrics.clone() }
}

fn database_check(database: Database, needed: bool) -> Check {
    Check::new("database", needed, move || {
        let database = database.clone();
        async move { database.ping().await.is_ok() }
    })
}

/// Never needed: without it everything is slower and nothing is wrong.
fn cache_check(cache: Cache) -> Check {
    Check::new("cache", false, move || {
        let cache = cache.clone();
        async move { cache.ping().await.is_ok() }
    })
}
