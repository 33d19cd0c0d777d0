//! Who waits for which order in this process: one pub/sub connection, any number of waiters.
//!
//! It makes waiting quick, nothing more. Redis forgets what nobody heard, so whoever waits here also reads again
//! on an interval, a short one while [`OrderHub::is_live`] says no.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use redis::{Msg, RedisResult};
use tokio::sync::broadcast::{self, error::RecvError};

use super::Cache;
use crate::domain::{document::Snapshot, ids::OrderId};

/// More changes than an order makes while a waiter takes a breath.
const BACKLOG: usize = 16;
/// A silent connection is asked this often whether it is one.
const PROBE: Duration = Duration::from_secs(5);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(300);

/// `None` stands for a change that this release cannot read.
type Change = Option<Arc<Snapshot>>;
type Waiters = HashMap<String, broadcast::Sender<Change>>;

/// Hands out changes of orders to those who wait. Cheap to clone.
#[derive(Clone)]
pub struct OrderHub {
    inner: Arc<Inner>,
}

struct Inner {
    cache: Cache,
    live: AtomicBool,
    /// By the order's key in Redis, which is also its channel.
    waiters: Mutex<Waiters>,
}

impl OrderHub {
    /// Listens in a task of its own until the last clone is dropped.
    pub fn start(cache: Cache) -> Self {
        let inner = Arc::new(Inner { cache, live: AtomicBool::new(false), waiters: Mutex::default() });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(inner) = weak.upgrade() {
                if let Err(error) = inner.listen().await {
                    tracing::debug!(%error, "not listening to order changes");
                }
                inner.live.store(false, Ordering::Relaxed);
                drop(inner);
                tokio::time::sleep(RECONNECT).await;
            }
        });
        Self { inner }
    }

    /// Whether changes are being heard at present. A connection that hangs is noticed first by whoever calls.
    pub fn is_live(&self) -> bool {
        self.inner.live.load(Ordering::Relaxed) && !self.inner.cache.pause.is_away()
    }

    /// Begins to wait. Changes from now on are kept until they are asked for.
    pub fn watch(&self, order: &OrderId) -> Watch {
        let channel = self.inner.cache.order_key(order);
        let receiver =
            self.inner.waiters().entry(channel.clone()).or_insert_with(|| broadcast::Sender::new(BACKLOG)).subscribe();
        Watch { hub: Arc::clone(&self.inner), channel, receiver }
    }
}

impl Inner {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the connection is lost or nobody holds the hub any more.
    async fn listen(self: &Arc<Self>) -> RedisResult<()> {
        let connecting = self.cache.client.get_async_pubsub();
        let (mut sink, mut changes) = within(connecting).await?.split();
        within(sink.psubscribe(self.cache.key("order", "*"))).await?;
        self.live.store(true, Ordering::Relaxed);
        let mut probe = tokio::time::interval(PROBE);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.pass_on(&change),
                    None => return Ok(()),
                },
                _ = probe.tick() => {
                    if Arc::strong_count(self) == 1 {
                        return Ok(());
                    }
                    within(sink.ping::<redis::Value>()).await?;
                }
            }
        }
    }

    fn pass_on(&self, change: &Msg) {
        let waiters = self.waiters();
        let Some(waiting) = waiters.get(change.get_channel_name()) else {
            return;
        };
        let snapshot = serde_json::from_slice(change.get_payload_bytes()).map(Arc::new);
        let snapshot =
            snapshot.inspect_err(|error| tracing::debug!(%error, "cannot read a published order; it is read again"));
        // The send fails when the last waiter has gone meanwhile, which is no error.
        let _ = waiting.send(snapshot.ok());
    }
}

async fn within<T>(deed: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(PROBE_LIMIT, deed)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// One who waits for changes of one order.
pub struct Watch {
    hub: Arc<Inner>,
    channel: String,
    receiver: broadcast::Receiver<Change>,
}

impl Watch {
    /// The next change heard, which may be older than what the waiter has read meanwhile; `None` when some were
    /// missed or cannot be read, and the order should be read again. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        match self.receiver.recv().await {
            Ok(snapshot) => snapshot,
            Err(RecvError::Lagged(_)) => None,
            // The sender lives as long as a waiter does.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiters = self.hub.waiters();
        // This receiver is still counted.
        if waiters.get(&self.channel).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.channel);
        }
    }
}
