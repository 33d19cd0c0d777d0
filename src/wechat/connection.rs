//! The connection to one of WeChat's hosts: how long we wait, how much we read, what we measure.

use crate::spans::Span;
use crate::wechat::settings::is_local;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Url, redirect};
use std::time::Duration;

/// WeChat refuses calls without a user agent.
const USER_AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// Longest silence after which a connection is used again. WeChat closes one after eight seconds, and a request that
/// meets the closing ends as an unknown answer. The pool looks once in this time, so a connection is gone after twice
/// as long.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3);

/// The largest answer we know, a query with many coupons, is a few KiB.
const ANSWER_MAX: usize = 1 << 20;

/// An answer nobody has checked yet.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// An HTTP client for one of WeChat's hosts. Only a local simulator is called past a configured proxy.
pub(super) fn http_client(base_url: &Url, timeout: Duration) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(2)))
        .pool_idle_timeout(IDLE_MAX)
        // A redirect would carry our signature to another path, where it is wrong.
        .redirect(redirect::Policy::none());
    if is_local(base_url) { builder.no_proxy().build() } else { builder.build() }
}

/// Waits for the whole answer. An error names the cause without the URL, which may hold a token.
pub(super) async fn receive(builder: RequestBuilder) -> Result<Answer, String> {
    read(builder.send().await.map_err(describe)?).await
}

/// The rest of an answer that has begun.
pub(super) async fn read(mut response: reqwest::Response) -> Result<Answer, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_MAX {
            return Err("answer too large".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

fn describe(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

/// An error with its causes: "error sending request: connection refused".
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Counts one exchange with either of WeChat's hosts, and the code by which WeChat declined it; gives its milliseconds
/// for the log.
pub(super) fn measure(call: &'static str, outcome: &'static str, code: Option<&str>, took: Duration) -> u64 {
    metrics::histogram!("wechat_request_seconds", "call" => call, "outcome" => outcome).record(took.as_secs_f64());
    if let Some(code) = code {
        metrics::counter!("wechat_codes_total", "call" => call, "code" => code_label(code)).increment(1);
    }
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// Says in its span how an exchange with either of WeChat's hosts ended.
pub(super) fn spanned(
    span: &mut Span,
    status: Option<u16>,
    request_id: Option<&str>,
    outcome: &str,
    code: Option<&str>,
) {
    if let Some(status) = status {
        span.note("http.response.status_code", status);
    }
    if let Some(id) = request_id {
        span.note("wechat.request_id", id);
    }
    if let Some(code) = code {
        span.note("wechat.code", code_label(code));
    }
    if outcome != "ok" {
        span.failed(outcome);
    }
}

/// A gateway's invention must not become a thousand time series.
fn code_label(code: &str) -> String {
    let is_code = (1..=40).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
    if is_code { code.to_owned() } else { "other".to_owned() }
}
