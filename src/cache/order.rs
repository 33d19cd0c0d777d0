//! Snapshots of moving orders, and what the first request under an Idempotency-Key asked for.

use std::sync::LazyLock;

use redis::Script;

use super::{Cache, CacheAway, catalogue::Known, limit::reached};
use crate::domain::{
    document::Snapshot,
    ids::{OrderId, ScheduleId, UserId},
    limits::Limit,
};

/// Long enough for customers who watch, short enough that a write lost on the way to Redis is soon forgotten.
const SNAPSHOT_SECONDS: u64 = 15;
/// The ingress's note stands until a worker takes the order from the queue, however long that is.
const NOTE_SECONDS: u64 = 24 * 60 * 60;
/// As long as clients may sensibly repeat a request; afterwards the stored order tells.
const CLAIM_SECONDS: u64 = 24 * 60 * 60;

/// Values are `<version> <snapshot as JSON>`. Keeps what is newer; tells those who wait when something is new.
/// The channel of an order is its key.
static STORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i, key in ipairs(KEYS) do
            local version, json = tonumber(ARGV[2*i-1]), ARGV[2*i]
            local there = redis.call('GETRANGE', key, 0, 15)
            there = tonumber(string.match(there, '^%d+') or '-1')
            if version >= there then
                redis.call('SET', key, version .. ' ' .. json, 'EX', ARGV[#ARGV])
            end
            if version > there then
                redis.call('PUBLISH', key, json)
            end
        end",
    )
});

/// What Redis knew when a request came.
#[derive(Debug)]
pub struct Admission {
    /// What the first request under this key asked for, when it was not this one that claimed it.
    pub earlier: Option<String>,
    pub snapshot: Option<Snapshot>,
    pub schedule: Known,
    /// A limit for which the worker has refused this customer a moment ago.
    pub limit: Option<Limit>,
}

impl Cache {
    /// Claims an order id for a request's hash, and reads all that is known about the order and its session.
    /// The first to claim stands, so that of two bodies sent at once under one key only one gets on.
    pub async fn admit(
        &self,
        order: &OrderId,
        request_hash: &str,
        schedule: ScheduleId,
        user: &UserId,
    ) -> Result<Admission, CacheAway> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(self.claim_key(order)).arg(request_hash);
        pipeline.arg("NX").arg("GET").arg("EX").arg(CLAIM_SECONDS);
        pipeline.get(self.order_key(order));
        self.ask_catalogue(&mut pipeline, schedule);
        self.ask_limits(&mut pipeline, schedule, user);
        type Answers = (Option<String>, Option<String>, Option<String>, bool, Vec<Option<i64>>);
        let mut connection = self.connection();
        let asked = pipeline.query_async::<Answers>(&mut connection);
        let (earlier, snapshot, card, complete, marks) = self.call("admit", asked).await?;
        Ok(Admission {
            earlier,
            snapshot: snapshot.as_deref().and_then(read),
            schedule: Known::from_redis(card.as_deref(), complete),
            limit: reached(&marks),
        })
    }

    /// Gives up a claim whose request was refused before anything came of it.
    pub async fn withdraw(&self, order: &OrderId) -> Result<(), CacheAway> {
        self.run("withdraw", redis::cmd("DEL").arg(self.claim_key(order))).await
    }

    /// Notes an order that is in the queue (`submitted`, version 0), unless more is known of it. Nobody waits for this:
    /// what changes an order is above 0.
    pub async fn note(&self, snapshot: &Snapshot) -> Result<(), CacheAway> {
        let mut note = redis::cmd("SET");
        note.arg(self.order_key(&snapshot.document.order_id));
        note.arg(format!("{} {}", snapshot.document.version, json(snapshot)));
        note.arg("NX").arg("EX").arg(NOTE_SECONDS);
        self.run("note_order", &note).await
    }

    /// Stores snapshots and tells those who wait; what is older than the stored one is left out.
    pub async fn store(&self, snapshots: &[Snapshot]) -> Result<(), CacheAway> {
        self.store_for(snapshots, SNAPSHOT_SECONDS).await
    }

    /// Stores what became of orders that were refused for a rule and are in no book: as long as the note that it replaces.
    ///
    /// # Errors
    /// Redis is unavailable: such an order reads as unknown.
    pub async fn store_refused(&self, snapshots: &[Snapshot]) -> Result<(), CacheAway> {
        self.store_for(snapshots, NOTE_SECONDS).await
    }

    async fn store_for(&self, snapshots: &[Snapshot], seconds: u64) -> Result<(), CacheAway> {
        // Redis does nothing else while a script runs.
        for some in snapshots.chunks(128) {
            let mut script = STORE.prepare_invoke();
            for snapshot in some {
                let document = &snapshot.document;
                script.key(self.order_key(&document.order_id)).arg(document.version).arg(json(snapshot));
            }
            script.arg(seconds);
            self.run_script::<()>("store_orders", &script).await?;
        }
        Ok(())
    }

    /// The stored snapshot; `None` when there is none.
    pub async fn snapshot(&self, order: &OrderId) -> Result<Option<Snapshot>, CacheAway> {
        let stored: Option<String> = self.run("read_order", redis::cmd("GET").arg(self.order_key(order))).await?;
        Ok(stored.as_deref().and_then(read))
    }

    pub(super) fn order_key(&self, order: &OrderId) -> String {
        self.key("order", order)
    }

    fn claim_key(&self, order: &OrderId) -> String {
        self.key("claim", order)
    }
}

fn json(snapshot: &Snapshot) -> String {
    serde_json::to_string(snapshot).expect("plain structs with text keys always serialize")
}

/// An entry of another release that this one cannot read counts as absent.
fn read(stored: &str) -> Option<Snapshot> {
    let (_version, json) = stored.split_once(' ')?;
    serde_json::from_str(json).ok()
}
