//! Whether a process lives, whether it can work, and what it counts. The same for the API and for workers.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, json};

use super::Api;

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
    pub metrics: PrometheusHandle,
}

/// `/healthz`, `/readyz`, `/metrics`.
pub fn router<S: Clone + Send + Sync + 'static>(health: Health) -> Router<S> {
    let health = Arc::new(health);
    let ready = health.clone();
    Router::new()
        .route("/healthz", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(move || async move { readiness(&ready.checks).await }))
        .route("/metrics", get(move || async move { exposition(&health.metrics) }))
}

async fn readiness(checks: &[Check]) -> Response {
    let answers = join_all(checks.iter().map(|check| tokio::time::timeout(PROBE_LIMIT, (check.probe)()))).await;
    let mut ready = true;
    let mut dependencies = Map::new();
    for (check, answer) in checks.iter().zip(answers) {
        let here = answer.unwrap_or(false);
        ready &= here || !check.needed;
        dependencies.insert(check.name.into(), if here { "ok" } else { "away" }.into());
    }
    let (status, word) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unready") };
    (status, Json(json!({"status": word, "dependencies": dependencies}))).into_response()
}

fn exposition(metrics: &PrometheusHandle) -> Response {
    metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

/// What the API depends on. Only the broker and WeChat's keys are needed: orders and callbacks are taken while
/// PostgreSQL is away, and a process that is taken out of the line for it would take none.
pub(super) fn of_api(api: &Api) -> Health {
    let (publisher, keys) = (api.publisher.clone(), api.wechat.clone());
    let (database, cache) = (api.database.clone(), api.cache.clone());
    Health {
        checks: vec![
            Check::new("broker", true, move || {
                let ready = publisher.is_ready();
                async move { ready }
            }),
            Check::new("wechat_keys", true, move || {
                let held = !keys.platform.serials().is_empty();
                async move { held }
            }),
            Check::new("database", false, move || {
                let database = database.clone();
                async move { database.ping().await.is_ok() }
            }),
            Check::new("cache", false, move || {
                let cache = cache.clone();
                async move { cache.ping().await.is_ok() }
            }),
        ],
        metrics: api.metrics.clone(),
    }
}
