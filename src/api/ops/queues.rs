//! `GET /v1/ops/queues`: what lies in each queue (the broker tells) and what workers have in hand (their heartbeats
//! tell, by way of Redis). What nobody can tell is null, never 0.

use std::{sync::LazyLock, time::Duration};

use axum::{Json, extract::State};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    api::{
        Api, Inner,
        auth::Viewer,
        problem::{Problem, ProblemDocument},
    },
    broker::{topology::Topology, watch::Depths},
    cache::heartbeat::{Heartbeat, LastMinute},
};

/// A broker that answers later is as good as away, for somebody who watches.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    /// Workers consume it.
    Work,
    /// Messages that were set aside for a person.
    Dead,
    /// Messages wait here until their time.
    Delay,
}

static QUEUES: LazyLock<Vec<(Purpose, String)>> = LazyLock::new(|| {
    let names = Topology::required().queues.into_iter().map(|queue| queue.name);
    let mut queues: Vec<(Purpose, String)> = names
        .map(|name| {
            let purpose = match name.as_str() {
                dead if dead.ends_with(".dead") => Purpose::Dead,
                delay if delay.starts_with("delay.") => Purpose::Delay,
                _ => Purpose::Work,
            };
            (purpose, name)
        })
        .collect();
    // Each purpose by itself; within it as the definitions say.
    queues.sort_by_key(|(purpose, _)| *purpose);
    queues
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BreakerState {
    Closed,
    /// At least one worker has stopped taking messages and probes with one.
    Open,
}

/// One queue. What cannot be told at present is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct QueueDocument {
    #[schema(example = "payments")]
    pub(super) queue: String,
    pub(super) purpose: Purpose,
    /// Waiting to be taken.
    pub(super) ready: Option<u32>,
    pub(super) consumers: Option<u32>,
    /// Taken by workers and not settled yet.
    in_hand: Option<u32>,
    last_minute: Option<LastMinute>,
    /// How long the oldest message in hand has been due; null also when nothing is in hand.
    oldest_seconds: Option<u64>,
    pub(super) breaker: Option<BreakerState>,
    /// The broker says that it does not exist.
    missing: bool,
}

/// Whether somebody who should tell could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    Ok,
    Away,
}

/// All queues: those of workers, those of dead letters, those that delay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct QueueList {
    pub(super) items: Vec<QueueDocument>,
    /// Always null: there is one page.
    #[schema(value_type = Option<String>)]
    next: (),
    /// Tells `ready` and `consumers`.
    broker: Told,
    /// Redis, which tells the rest.
    heartbeats: Told,
}

/// List queues
///
/// At most a second old.
#[utoipa::path(
    get, path = "/v1/ops/queues", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    responses(
        (status = 200, description = "Every queue; what cannot be told at present is null", body = QueueList),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(api): State<Api>, _viewer: Viewer) -> Result<Json<QueueList>, Problem> {
    Ok(Json(api.overviews.fresh(&api).await.queues.clone()))
}

/// Asks the broker and Redis, side by side.
pub(super) async fn look(api: &Inner) -> QueueList {
    let (depths, beats) = tokio::join!(timeout(PATIENCE, api.broker.depths()), api.cache.heartbeats());
    let (depths, beats) = (depths.ok().and_then(Result::ok), beats.ok());
    let told = |is_known| if is_known { Told::Ok } else { Told::Away };
    QueueList {
        broker: told(depths.is_some()),
        heartbeats: told(beats.is_some()),
        items: QUEUES
            .iter()
            .map(|(purpose, name)| document(name, *purpose, depths.as_ref(), beats.as_deref()))
            .collect(),
        next: (),
    }
}

/// From what the broker and Redis tell; `None` for one that cannot be asked.
fn document(queue: &str, purpose: Purpose, depths: Option<&Depths>, beats: Option<&[Heartbeat]>) -> QueueDocument {
    let found = depths.into_iter().flat_map(|depths| &depths.told).find(|depth| depth.queue == queue);
    let mine: Vec<&Heartbeat> = beats.into_iter().flatten().filter(|beat| beat.queue == queue).collect();
    let consumers = found.map(|found| found.consumers);
    // Consumers that do not tell of themselves have an unknown number in hand.
    let is_told = beats.is_some() && (!mine.is_empty() || consumers == Some(0));
    let sum = |of: fn(&LastMinute) -> u64| mine.iter().map(|beat| of(&beat.last_minute)).sum();
    let open = mine.iter().any(|beat| beat.breaker_open);
    QueueDocument {
        queue: queue.to_owned(),
        purpose,
        ready: found.map(|found| found.ready),
        consumers,
        in_hand: is_told.then(|| mine.iter().map(|beat| beat.in_hand).sum()),
        last_minute: is_told.then(|| LastMinute {
            done: sum(|minute| minute.done),
            retried: sum(|minute| minute.retried),
            parked: sum(|minute| minute.parked),
        }),
        oldest_seconds: mine.iter().filter_map(|beat| beat.oldest_seconds).max(),
        breaker: (!mine.is_empty()).then_some(if open { BreakerState::Open } else { BreakerState::Closed }),
        missing: found.is_none() && depths.is_some_and(|depths| !depths.unseen.contains(queue)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::watch::Depth;

    fn beat(queue: &str, in_hand: u32, breaker_open: bool) -> Heartbeat {
        let last_minute = LastMinute { done: 7, ..LastMinute::default() };
        Heartbeat { queue: queue.into(), in_hand, oldest_seconds: Some(u64::from(in_hand)), breaker_open, last_minute }
    }

    fn told(ready: u32, consumers: u32) -> Depths {
        Depths { told: vec![Depth { queue: "prepay".into(), ready, consumers }], ..Depths::default() }
    }

    #[test]
    fn what_nobody_tells_is_unknown_and_not_zero() {
        let prepay =
            |depths: Option<&Depths>, beats: Option<&[Heartbeat]>| document("prepay", Purpose::Work, depths, beats);
        let unknown = prepay(None, None);
        assert_eq!((unknown.ready, unknown.in_hand, unknown.last_minute, unknown.breaker), (None, None, None, None));
        assert!(!unknown.missing);
        let others = [beat("refunds", 9, true)];
        let silent = prepay(Some(&told(5, 1)), Some(&others));
        assert_eq!((silent.ready, silent.in_hand, silent.breaker), (Some(5), None, None));
        let idle = prepay(Some(&told(5, 0)), Some(&[]));
        assert_eq!((idle.in_hand, idle.last_minute), (Some(0), Some(LastMinute::default())));
        assert!(prepay(Some(&Depths::default()), Some(&[])).missing);
        let unseen = Depths { unseen: ["prepay".to_owned()].into(), ..Depths::default() };
        let hidden = prepay(Some(&unseen), Some(&[]));
        assert_eq!((hidden.missing, hidden.ready), (false, None), "what may not be looked at is unknown");
    }

    #[test]
    fn the_workers_of_a_queue_are_told_together() {
        let beats = [beat("prepay", 2, false), beat("prepay", 3, true), beat("refunds", 9, false)];
        let together = document("prepay", Purpose::Work, Some(&told(0, 2)), Some(&beats));
        assert_eq!((together.in_hand, together.oldest_seconds), (Some(5), Some(3)));
        assert_eq!(together.breaker, Some(BreakerState::Open));
        assert_eq!(together.last_minute.unwrap().done, 14);
    }

    #[test]
    fn every_queue_has_its_purpose() {
        let of = |purpose| QUEUES.iter().filter(|(is, _)| *is == purpose).count();
        assert_eq!((of(Purpose::Work), of(Purpose::Dead)), (13, 6));
        assert!(of(Purpose::Delay) > 5);
    }
}
