//! `GET /v1/orders/{id}/events`: an order's changes as they happen (server-sent events).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{Response, sse::Event},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Api,
    auth::Caller,
    event_stream, names,
    order_follow::{Follow, order_id, own_order},
    order_look,
    problem::{Kind, Problem, ProblemDocument},
};
use crate::domain::document::OrderDocument;

/// Then the client comes back, perhaps to a younger process.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// What a client waits before it comes back.
const RECONNECT: Duration = Duration::from_secs(2);

/// Follow an order
///
/// One `status` event per change, its data the order document, its id the document's `version`. The present state
/// comes first, unless `Last-Event-ID` says that you have it.
#[utoipa::path(
    get, path = "/v1/orders/{id}/events", tag = "orders", security(("bearer" = ["owner"])),
    params(
        ("id" = String, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The last version you have seen"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<i32>().ok());
    let place = Arc::clone(&api.limits.event_streams)
        .try_acquire_owned()
        .map_err(|_| Problem::new(Kind::Overloaded).retry_after(RECONNECT))?;
    let mut follow = Follow::begin(&api, order_id(&id)?, caller.user.clone());
    let now = own_order(&api, &caller, &id).await?;
    follow.has_seen(&now.document);
    order_look::looked(&api, &now.document);

    let (events, stream) = mpsc::channel(4);
    let stop = api.stop.clone();
    let expires_in = Duration::try_from(caller.expires_at - (api.now)()).unwrap_or_default();
    let end = Instant::now() + expires_in.min(LONGEST);
    tokio::spawn(async move {
        let _place = place;
        let _counted = Counted::one();
        tokio::select! {
            () = tell(follow, &now.document, seen, &events) => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(end) => {}
            () = events.closed() => {}
        }
    });
    Ok(event_stream::answer(stream))
}

type Events = mpsc::Sender<Result<Event, Infallible>>;

/// Sends what the client has not seen, then every change, until nobody listens.
async fn tell(mut follow: Follow, now: &OrderDocument, seen: Option<i32>, events: &Events) {
    let opening = if seen == Some(now.version) {
        // Something to see at once, so that proxies and clients know that the stream stands.
        Event::default().comment("").retry(RECONNECT)
    } else {
        status(now).retry(RECONNECT)
    };
    let mut next = opening;
    while events.send(Ok(next)).await.is_ok() {
        next = status(&follow.next().await.document);
    }
}

fn status(document: &OrderDocument) -> Event {
    let json = serde_json::to_string(document).expect("plain structs with text keys always serialize");
    Event::default().event("status").id(document.version.to_string()).data(json)
}

/// One open stream in the gauge.
struct Counted;

impl Counted {
    fn one() -> Self {
        metrics::gauge!(names::EVENT_STREAMS).increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::EVENT_STREAMS).decrement(1);
    }
}
