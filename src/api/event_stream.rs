//! Server-sent events on their way out: the headers that proxies need to pass each event on at once.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// nginx, and what is built on it, gathers an answer before it passes it on, unless it is told not to.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Sends what comes through the channel until its other end is dropped, with a comment in every silence of 15 s.
pub(super) fn answer(events: mpsc::Receiver<Result<Event, Infallible>>) -> Response {
    let alive = KeepAlive::new().interval(COMMENT_EVERY);
    let mut response = Sse::new(ReceiverStream::new(events)).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // Personal, and not to be packed on the way: a packer waits for enough to pack.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    response
}
