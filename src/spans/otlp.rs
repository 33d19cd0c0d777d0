//! The way to the collector: OTLP over HTTP, in the protocol's JSON form (opentelemetry-proto, "JSON Protobuf Encoding":
//! ids as hex, 64-bit numbers as texts), which every collector takes beside the binary one.
//!
//! A set of spans is sent once. When the collector is away, it is dropped and counted, and nobody waits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    context::TraceParent,
    span::{LINE, PERCENT, Told},
};
use crate::{gather::Kept, setting::BadSetting};

/// A collector stands near. A stopping process waits no longer for it either.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// Whether and where spans are sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `http://collector:4318`; empty or absent for none.
    pub otlp_endpoint: Option<String>,
    pub traces_percent: u8,
}

impl TelemetrySettings {
    fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }

    /// Everything that is wrong; empty when it can be used.
    pub fn problems(&self) -> Vec<BadSetting> {
        let problem = |name: &str, what: &str| BadSetting { setting: format!("telemetry.{name}"), what: what.into() };
        let mut problems = Vec::new();
        if self.endpoint().is_some_and(|endpoint| address(endpoint).is_none()) {
            problems
                .push(problem("otlp_endpoint", "must be an http or https address without path, as http://host:4318"));
        }
        if self.traces_percent > 100 {
            problems.push(problem("traces_percent", "must be at most 100"));
        }
        problems
    }
}

/// Where the collector takes spans; `None` for what is no base address.
fn address(endpoint: &str) -> Option<Url> {
    let url = Url::parse(endpoint).ok()?;
    let fits = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
    fits.then(|| url.join("v1/traces").ok())?
}

/// Begins to send the spans of this process to the collector; `None` when there is none to send them to.
///
/// # Errors
/// The TLS library cannot start.
pub fn export(settings: &TelemetrySettings, service: &str) -> reqwest::Result<Option<Kept>> {
    let Some(address) = settings.endpoint().and_then(address) else { return Ok(None) };
    // Inside the house, so past any proxy.
    let http = Client::builder().no_proxy().timeout(TAKEN_WITHIN).redirect(redirect::Policy::none()).build()?;
    PERCENT.get_or_init(|| settings.traces_percent);
    let resource = json!({ "attributes": [
        attribute("service.namespace", "holdfast"),
        attribute("service.name", service),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
    ]});
    let is_away = std::sync::Arc::new(AtomicBool::new(false));
    Ok(LINE.keep(move |set| {
        let body = document(&resource, &set);
        let sending = http.post(address.clone()).json(&body).send();
        let is_away = is_away.clone();
        async move {
            let taken = match sending.await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("HTTP {}", answer.status())),
                Err(error) => Err(error.without_url().to_string()),
            };
            match &taken {
                Ok(()) => is_away.store(false, Ordering::Relaxed),
                // Once for an outage; the metric counts on.
                Err(error) if !is_away.swap(true, Ordering::Relaxed) => {
                    tracing::warn!(error, "the collector of traces takes no spans; they are dropped");
                }
                Err(_) => {}
            }
            taken.is_ok()
        }
    }))
}

fn document(resource: &Value, set: &[Told]) -> Value {
    let (now, instant) = (SystemTime::now(), Instant::now());
    let spans: Vec<Value> = set.iter().map(|told| span(told, now - instant.duration_since(told.began))).collect();
    json!({ "resourceSpans": [{
        "resource": resource,
        "scopeSpans": [{ "scope": { "name": "holdfast" }, "spans": spans }],
    }]})
}

fn span(told: &Told, began: SystemTime) -> Value {
    let nanoseconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let attributes: Vec<Value> = told.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let link = |link: &TraceParent| json!({ "traceId": link.trace_id(), "spanId": link.span_id() });
    json!({
        "traceId": told.context.trace_id(),
        "spanId": told.context.span_id(),
        "parentSpanId": told.parent.map(TraceParent::span_id).unwrap_or_default(),
        "name": told.name,
        "kind": told.kind as i32,
        "startTimeUnixNano": nanoseconds(began).to_string(),
        "endTimeUnixNano": nanoseconds(began + told.took).to_string(),
        "attributes": attributes,
        "links": told.links.iter().map(link).collect::<Vec<_>>(),
        "status": if told.failed { json!({ "code": 2 }) } else { json!({}) },
    })
}

fn attribute(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}
