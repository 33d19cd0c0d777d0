//! Redis: makes things quick, and may vanish. The only place with redis.
//!
//! Every call has its own time limit, and Redis being away is a value ([`CacheAway`]) that the caller answers with
//! a slower way, never an error it passes on. Nothing here is the truth; emptying Redis costs speed alone.
//!
//! | file | what is kept | without Redis |
//! |---|---|---|
//! | [`order`] | newest snapshot of each moving order, first body under each key | PostgreSQL |
//! | [`hub`] | (pub/sub) who waits for which order | re-reading on an interval |
//! | [`availability`] | free seats per session | PostgreSQL |
//! | [`catalogue`] | price of each session | the worker judges |
//! | [`limit`] | who was just refused for a limit | the worker judges |
//! | [`heartbeat`] | what workers have in hand | the console says "unknown" |
//! | [`once`] | first refund request under each key, last look at each order | the stored refund; no look |
//! | [`token`] | the Official Account's token | each process has its own |
//! | [`rate`] | how much each customer asked for | each process counts for itself |

pub mod availability;
pub mod catalogue;
pub mod heartbeat;
pub mod hub;
pub mod limit;
pub mod once;
pub mod order;
pub mod rate;
pub mod token;

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::tls::{Secured, TlsFault};

/// How we reach Redis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    pub url: Option<SecretString>,
    /// In front of every key, so that several stacks can share one Redis.
    pub key_prefix: String,
    /// The longest any call may take. What takes longer is slower than PostgreSQL and counts as away.
    pub call_limit_ms: u64,
}

/// Redis did not answer in time, or not with what was asked for. Go on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away")]
pub struct CacheAway;

/// Calls without an answer, one after the other, after which their connection is taken to be dead, though no reset
/// told so: the next call makes a new one. Redis may also just be slow, so not after the first.
const SILENCES: u32 = 4;

/// A connection to Redis that repairs itself. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    client: Client,
    config: ConnectionManagerConfig,
    connection: Arc<Mutex<ConnectionManager>>,
    prefix: Arc<str>,
    limit: Duration,
    pause: Arc<Pause>,
}

impl Cache {
    /// Opens without connecting; must be called inside the runtime.
    ///
    /// # Errors
    /// The URL is missing or unreadable, or a file that it names.
    pub fn open(settings: &CacheSettings) -> Result<Self, RedisError> {
        let limit = Duration::from_millis(settings.call_limit_ms);
        let client = client(settings.url.as_ref().map_or("", |url| url.expose_secret()))?;
        // Reconnecting goes on in the background while calls give up by `limit`; so its own patience is short
        // and the next call after it ran out begins anew.
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(limit))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(2);
        Ok(Self {
            connection: Arc::new(Mutex::new(ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?)),
            client,
            config,
            prefix: settings.key_prefix.as_str().into(),
            limit,
            pause: Arc::default(),
        })
    }

    /// One round trip, for readiness: a write, since a Redis that refuses writes answers a PING.
    ///
    /// # Errors
    /// No answer, or a refusal: read-only, out of memory, unable to save.
    pub async fn ping(&self) -> Result<(), CacheAway> {
        let mut probe = redis::cmd("SET");
        self.run("ping", probe.arg(self.key("ready", "probe")).arg(1).arg("EX").arg(60)).await
    }

    fn key(&self, family: &str, name: impl Display) -> String {
        format!("{}{family}:{name}", self.prefix)
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves a connection that has fallen silent; whatever still waits on it gives up by its own limit.
    fn begin_anew(&self) {
        if let Ok(fresh) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    async fn run<T: FromRedisValue>(&self, name: &'static str, command: &Cmd) -> Result<T, CacheAway> {
        let mut connection = self.connection();
        self.call(name, command.query_async(&mut connection)).await
    }

    async fn run_script<T: FromRedisValue>(
        &self,
        name: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CacheAway> {
        let mut connection = self.connection();
        self.call(name, script.invoke_async(&mut connection)).await
    }

    /// Does `deed` within the limit. While Redis is known to be away, most calls are not even tried.
    async fn call<T>(&self, name: &'static str, deed: impl Future<Output = RedisResult<T>>) -> Result<T, CacheAway> {
        if self.pause.is_on() {
            count(name, "skipped");
            return Err(CacheAway);
        }
        match tokio::time::timeout(self.limit, deed).await {
            Ok(Ok(value)) => {
                self.pause.silences.store(0, Ordering::Relaxed);
                if self.pause.lift() {
                    tracing::info!("Redis is back");
                }
                count(name, "ok");
                Ok(value)
            }
            Ok(Err(error)) if error.is_io_error() || error.is_connection_dropped() => {
                self.went_away(name, &error);
                Err(CacheAway)
            }
            Ok(Err(error)) => {
                // Loading, out of memory, read-only, or an answer of another shape: it speaks, but not to help.
                tracing::warn!(call = name, %error, "Redis refused a call");
                count(name, "refused");
                Err(CacheAway)
            }
            Err(_) => {
                self.went_away(name, &format_args!("no answer within {:?}", self.limit));
                Err(CacheAway)
            }
        }
    }

    fn went_away(&self, name: &'static str, why: &dyn Display) {
        if self.pause.begin() {
            tracing::warn!(call = name, %why, "Redis is away; going on without");
        }
        count(name, "away");
        if self.pause.silences.fetch_add(1, Ordering::Relaxed) + 1 == SILENCES {
            self.pause.silences.store(0, Ordering::Relaxed);
            self.begin_anew();
        }
    }
}

fn count(call: &'static str, outcome: &'static str) {
    metrics::counter!("cache_calls_total", "call" => call, "outcome" => outcome).increment(1);
}

/// After a call that got no answer, the next ones are spared the wait for a moment.
struct Pause {
    begun: Instant,
    /// Milliseconds after `begun`; 0 while Redis answers.
    until: AtomicU64,
    /// Calls without an answer since the last one that had one.
    silences: AtomicU32,
}

impl Pause {
    const LENGTH_MS: u64 = 250;

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_on(&self) -> bool {
        self.now() < self.until.load(Ordering::Relaxed)
    }

    /// Whether the last call had no answer.
    fn is_away(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// Whether this is news.
    fn begin(&self) -> bool {
        let until = self.now().saturating_add(Self::LENGTH_MS);
        self.until.swap(until, Ordering::Relaxed) == 0
    }

    /// Whether this is news.
    fn lift(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0 && self.until.swap(0, Ordering::Relaxed) != 0
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { begun: Instant::now(), until: AtomicU64::new(0), silences: AtomicU32::new(0) }
    }
}
fn client(url: &str) -> Result<Client, RedisError> {
    let unusable = |fault: TlsFault| RedisError::from((ErrorKind::InvalidClientConfig, "the URL", fault.to_string()));
    let Secured { url, ca: root_cert, client } = Secured::parse(url).map_err(unusable)?;
    let client_tls = client.map(|client| ClientTlsConfig { client_cert: client.certificates, client_key: client.key });
    if url.scheme() == "rediss" {
        Client::build_with_tls(url.as_str(), TlsCertificates { client_tls, root_cert })
    } else {
        Client::open(url.as_str())
    }
}
