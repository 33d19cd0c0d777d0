//! The one look at everything that the console keeps open: queues, and what waits for a person. Asked at most once
//! a second, however many watch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::queues::{self, QueueList};
use crate::{
    api::Inner,
    domain::money::Fen,
    store::{self, doubt::Total},
};

const FRESH: Duration = Duration::from_secs(1);

/// What stands open at one moment. What cannot be told is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Overview {
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    as_of: OffsetDateTime,
    pub(super) queues: QueueList,
    /// Messages in the queues of dead letters, all together.
    dead_letters: Option<u32>,
    cases: Option<OpenCases>,
    money_in_doubt: Option<Total>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
struct OpenCases {
    open: i64,
    #[schema(value_type = i64, example = 20000)]
    money_fen: Fen,
}

/// The newest overview.
#[derive(Default)]
pub(in crate::api) struct Overviews(Mutex<Option<(Instant, Arc<Overview>)>>);

impl Overviews {
    /// Not older than [`FRESH`]. Those who ask meanwhile wait for the same answer.
    pub(super) async fn fresh(&self, api: &Inner) -> Arc<Overview> {
        let mut newest = self.0.lock().await;
        if let Some((at, overview)) = &*newest
            && at.elapsed() < FRESH
        {
            return Arc::clone(overview);
        }
        let overview = Arc::new(look(api).await);
        *newest = Some((Instant::now(), Arc::clone(&overview)));
        overview
    }
}

async fn look(api: &Inner) -> Overview {
    let pool = api.desk.pool();
    let (queues, cases, doubt) =
        tokio::join!(queues::look(api), store::case::open_total(pool), store::doubt::total(pool));
    let dead = queues.items.iter().filter(|queue| queue.purpose == queues::Purpose::Dead);
    Overview {
        as_of: (api.now)(),
        dead_letters: dead.map(|queue| queue.ready).sum(),
        cases: cases.ok().map(|(open, money_fen)| OpenCases { open, money_fen }),
        money_in_doubt: doubt.ok(),
        queues,
    }
}
