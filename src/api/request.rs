//! What every request goes through, outermost: a place, an id, a time limit, a count, and the writing of problems.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::{
    Api, Inner,
    addresses::Peer,
    heads::Misread,
    language::Language,
    names,
    problem::{Kind, Problem},
};
use crate::{
    domain::{hex::hex, ids::is_of_the_system},
    spans::{Arrival, TraceParent},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID_LONGEST: usize = 64;
/// For answers that are no page: nothing in them is to be run, framed or loaded.
const STRICTEST_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A browser that was here once comes by https for a year, whatever link it follows (RFC 6797). Other names of the domain are
/// not ours to bind.
const HSTS: &str = "max-age=31536000";

/// What handlers may want to know of their request.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The caller's own, when it is sane, else made here; returned, logged, and part of the message.
    pub(super) request_id: String,
    pub(super) language: Language,
}

impl Context {
    fn of(headers: &HeaderMap, api: &Api) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let given = text(REQUEST_ID).filter(|id| {
            (1..=REQUEST_ID_LONGEST).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_graphic())
                && !is_of_the_system(id)
        });
        let request_id = given.map_or_else(|| hex(&(api.random)()[..12]), str::to_owned);
        Self { request_id, language: Language::preferred(text(header::ACCEPT_LANGUAGE).unwrap_or_default()) }
    }
}

/// The outermost layer.
pub(super) async fn enter(
    State(api): State<Api>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let context = Context::of(request.headers(), &api);
    let method = request.method().clone();
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    let given = request.headers().get(TRACEPARENT).and_then(|header| header.to_str().ok());
    let arrival = Arrival::new(method_label(&method), route, given.and_then(TraceParent::parse));
    let span = tracing::info_span!("request", request_id = %context.request_id, %method, route);
    request.extensions_mut().insert(context.clone());

    let closes = ends_the_connection(&request);
    let response = match admit(&api, &request, route).and_then(|place| read_one_way(&request).map(|()| place)) {
        Ok(_place) => {
            let limit = Duration::from_secs(api.settings.request_timeout_seconds);
            let answer = arrival.answer(next.run(request)).instrument(span.clone());
            tokio::time::timeout(limit, answer)
                .await
                .unwrap_or_else(|_| Problem::new(Kind::RequestTimeout).into_response())
        }
        Err(problem) => problem.into_response(),
    };
    let mut response = finish(response, &context, route);
    if api.settings.is_reached_by_https() {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    if closes {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }

    let status = response.status();
    let elapsed = started.elapsed();
    if status.is_server_error() {
        span.in_scope(|| tracing::warn!(status = status.as_u16(), ?elapsed, "answered"));
    } else {
        span.in_scope(|| tracing::debug!(status = status.as_u16(), ?elapsed, "answered"));
    }
    if route.starts_with("/v1/") {
        let mut span = arrival.span(method_label(&method), route);
        span.note("http.response.status_code", status.as_u16());
        span.note("holdfast.request_id", &context.request_id);
        if status.is_server_error() {
            span.failed(status.as_str());
        }
    }
    metrics::counter!(names::REQUESTS, "method" => method_label(&method),
        "route" => route.to_owned(), "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!(names::REQUEST_SECONDS, "route" => route.to_owned()).record(elapsed.as_secs_f64());
    response
}

/// Refuses a head that a proxy in front may have read as another one: with a line feed alone, with no host or several (RFC
/// 9112, 2.2 and 3.2).
fn read_one_way(request: &Request) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Kind::Unreadable).detail(detail));
    if is_misread(request) {
        return refused("A line of the head ends with a line feed alone.");
    }
    let mut named = request.headers().get_all(header::HOST).iter();
    let authority = request.uri().authority().map(|authority| authority.as_str());
    match (named.next(), named.next()) {
        (_, Some(_)) => refused("There is more than one Host header."),
        (Some(host), None) => match host.to_str().ok().filter(|host| is_host(host)) {
            None => refused("The Host header is no host."),
            Some(host) if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) => {
                refused("The address and the Host header name two hosts.")
            }
            Some(_) => Ok(()),
        },
        // HTTP/2 names it in the address, and HTTP/1.0 need not name any.
        (None, None) if authority.is_some() || request.version() < Version::HTTP_11 => Ok(()),
        (None, None) => refused("The Host header is missing."),
    }
}

/// A name or address with or without a port, and nothing that a list, a path or a login would need.
fn is_host(host: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte);
    !host.is_empty() && host.bytes().all(known)
}

fn is_misread(request: &Request) -> bool {
    request.extensions().get::<Misread>().is_some_and(Misread::is_set)
}

/// Returns whether the connection ends after this request. [`super::heads`] does not parse chunked bodies, so it cannot find
/// the start of the next request; a misread head leaves the connection in an unknown state.
fn ends_the_connection(request: &Request) -> bool {
    let is_open = request.headers().contains_key(header::TRANSFER_ENCODING) || is_misread(request);
    request.version() < Version::HTTP_2 && is_open
}

/// A place among the requests that are answered at once, or why there is none.
fn admit<'a>(api: &'a Inner, request: &Request, route: &str) -> Result<SemaphorePermit<'a>, Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    // WeChat's callbacks come from few addresses, prove themselves, and must not be lost to a flood.
    if let Some(peer) = peer.filter(|_| !route.starts_with("/v1/wechat/")) {
        let pace = api.limits.addresses.take(peer, request.headers());
        pace.map_err(|wait| Problem::new(Kind::TooManyRequests).retry_after(wait))?;
    }
    // Waiting for a place would only add waiting customers; a refusal at once lets them come back.
    let place = api.limits.in_flight.try_acquire();
    place.map_err(|_| Problem::new(Kind::Overloaded).retry_after(Duration::from_secs(1)))
}

/// A stranger may send any word as a method; only the known ones become labels.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Writes the problem, if it is one, and the headers that every answer carries.
fn finish(mut response: Response, context: &Context, route: &str) -> Response {
    if let Some(problem) = problem_of(&mut response) {
        let body = if route.starts_with("/v1/wechat/") {
            // WeChat Pay, callbacks: the form in which it wants to be told.
            Json(json!({"code": "FAIL", "message": problem.words()})).into_response()
        } else {
            let document = problem.document(context.language, &context.request_id);
            let mut body = Json(document).into_response();
            let headers = body.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            let language = HeaderValue::from_static(context.language.tag());
            headers.insert(header::CONTENT_LANGUAGE, language);
            headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
            body
        };
        let (parts, body) = body.into_parts();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().extend(parts.headers);
        *response.body_mut() = body;
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(&context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, STRICTEST_POLICY),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The problem a handler returned, or the one that an error of axum or tower amounts to.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    // A handler that wrote its own JSON (readiness) has said what it wants to say.
    if !is_error || content_type.is_some_and(|kind| kind == "application/json") {
        return None;
    }
    let kind = Kind::from_status(status);
    if kind.status() != status {
        *response.status_mut() = kind.status();
    }
    Some(Problem::new(kind))
}

/// The answer to an address that nothing serves.
pub(super) async fn nothing_here() -> StatusCode {
    StatusCode::NOT_FOUND
}
