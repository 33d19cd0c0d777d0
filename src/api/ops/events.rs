//! `GET /v1/ops/events`: the overview as it changes (server-sent events). The console's every page lives by it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{Response, sse::Event},
};
use tokio::{sync::mpsc, time::Instant};

use crate::api::{
    Api,
    auth::Viewer,
    event_stream,
    problem::{Kind, Problem, ProblemDocument},
};

const EVERY: Duration = Duration::from_secs(2);
/// Then the client comes back, perhaps to a younger process.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// What a client waits before it comes back.
const RECONNECT: Duration = Duration::from_secs(2);

/// Watch everything
///
/// An `overview` event every two seconds, the first at once.
#[utoipa::path(
    get, path = "/v1/ops/events", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn events(State(api): State<Api>, Viewer(caller): Viewer) -> Result<Response, Problem> {
    let place = Arc::clone(&api.limits.event_streams)
        .try_acquire_owned()
        .map_err(|_| Problem::new(Kind::Overloaded).retry_after(RECONNECT))?;
    let (events, stream) = mpsc::channel(1);
    let expires_in = Duration::try_from(caller.expires_at - (api.now)()).unwrap_or_default();
    let end = Instant::now() + expires_in.min(LONGEST);
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = tell(&api, &events) => {}
            () = api.stop.cancelled() => {}
            () = tokio::time::sleep_until(end) => {}
            () = events.closed() => {}
        }
    });
    Ok(event_stream::answer(stream))
}

/// Until nobody listens.
async fn tell(api: &Api, events: &mpsc::Sender<Result<Event, Infallible>>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let overview = api.overviews.fresh(api).await;
        let json = serde_json::to_string(&*overview).expect("plain structs with text keys always serialize");
        if events.send(Ok(Event::default().event("overview").data(json).retry(RECONNECT))).await.is_err() {
            return;
        }
    }
}
