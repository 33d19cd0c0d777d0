//! `GET /v1/ops/invariants`: every promise asked of the books, told one by one as the answers come.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    api::{
        Api, Inner,
        auth::Viewer,
        problem::{Kind, Problem, ProblemDocument},
    },
    store::{StoreError, verify},
};

/// `holdfast verify` has all the time it wants; a page does not.
const LIMIT: Duration = Duration::from_secs(60);
/// What is late by less than this is not overdue: as the command's default.
const GRACE: time::Duration = time::Duration::seconds(120);

#[derive(Debug, Serialize)]
struct Begin {
    /// How many answers will come.
    items: usize,
}

/// How the asking ended.
#[derive(Debug, Serialize)]
struct End {
    /// `done`, `time_is_over`, `store_away`
    outcome: &'static str,
    took_ms: u128,
}

/// Check every invariant
///
/// Events: `begin` with the number of `items` to come; `item` for each, as `holdfast verify --json` has it; `end` with
/// the `outcome`: `done`, `time_is_over` (after 60 s; those not told are unknown) or `store_away`. One at a time.
#[utoipa::path(
    get, path = "/v1/ops/invariants", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`: somebody else is asking", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn ask(State(api): State<Api>, _viewer: Viewer) -> Result<Response, Problem> {
    let place = std::sync::Arc::clone(&api.limits.verifying).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Overloaded).detail("Somebody else is asking.").retry_after(Duration::from_secs(5))
    })?;
    // As many as there are items: a slow listener does not hold the snapshot open.
    let (events, stream) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = tell(&api, &events) => {}
            () = api.stop.cancelled() => {}
            () = events.closed() => {}
        }
    });
    Ok(Sse::new(UnboundedReceiverStream::new(stream)).keep_alive(KeepAlive::new()).into_response())
}

async fn tell(api: &Inner, events: &mpsc::UnboundedSender<Result<Event, Infallible>>) {
    let send = |name: &str, json: serde_json::Result<String>| {
        let json = json.expect("plain structs with text keys always serialize");
        // Who has left hears nothing.
        let _ = events.send(Ok(Event::default().event(name).data(json)));
    };
    let began = Instant::now();
    send("begin", serde_json::to_string(&Begin { items: verify::ITEMS }));
    let asked = verify::run_telling(&api.desk, GRACE, Some(LIMIT), |item| send("item", serde_json::to_string(&item)));
    let outcome = match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(())) => "done",
        Ok(Err(error @ (StoreError::Away(_) | StoreError::Conflict(_) | StoreError::Newer(_)))) => {
            tracing::warn!(%error, "the invariants could not be asked");
            "store_away"
        }
        Ok(Err(error @ StoreError::Bug(_))) => {
            tracing::error!(%error, "the invariants could not be asked");
            "store_away"
        }
        Err(_) => "time_is_over",
    };
    send("end", serde_json::to_string(&End { outcome, took_ms: began.elapsed().as_millis() }));
}
