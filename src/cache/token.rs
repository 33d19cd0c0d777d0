//! The Official Account's access token, shared by all processes: one asks WeChat, the others read.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::Script;

use super::{Cache, CacheAway};

/// WeChat keeps the old token alive for five minutes after a new one is given; we stop using ours before that.
const SPARE: Duration = Duration::from_secs(300);
/// Longer than a refresh takes; a refresher that died is forgotten after it.
const LOCK_SECONDS: u64 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Then a waiter asks WeChat itself: `stable_token` gives the same token to both.
const LOOKS: u32 = 50;

/// Stores the token if the lock is still ours, and gives the lock back.
static STORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[2]) == ARGV[1] then
            redis.call('DEL', KEYS[2])
            if ARGV[2] ~= '' then
                redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
            end
        end",
    )
});

static DISCARD: LazyLock<Script> =
    LazyLock::new(|| Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"));

/// A token as WeChat gave it.
#[derive(Clone)]
pub struct FreshToken {
    pub token: String,
    pub expires_in: Duration,
}

/// The shared token of one Official Account.
pub struct SharedToken {
    cache: Cache,
    /// For when Redis is away: the newest token this process saw, and until when it is used.
    own: Mutex<Option<(String, Instant)>>,
    /// One refresh at a time within the process.
    refreshing: tokio::sync::Mutex<()>,
}

impl SharedToken {
    pub fn new(cache: Cache) -> Self {
        Self { cache, own: Mutex::default(), refreshing: tokio::sync::Mutex::default() }
    }

    /// A token to call with. `refresh` asks WeChat for one; it is called only when no process has one and no other
    /// process is asking.
    pub async fn get<E, F, Fetch>(&self, refresh: F) -> Result<String, E>
    where
        F: Fn() -> Fetch,
        Fetch: Future<Output = Result<FreshToken, E>>,
    {
        if let Ok(Some(token)) = self.read().await {
            return Ok(token);
        }
        let _one_at_a_time = self.refreshing.lock().await;
        for _ in 0..LOOKS {
            match self.read().await {
                Ok(Some(token)) => return Ok(token),
                Ok(None) => {}
                Err(CacheAway) => return self.get_alone(refresh()).await,
            }
            let fence = uuid::Uuid::now_v7().simple().to_string();
            match self.lock(&fence).await {
                Ok(true) => return self.refresh_for_all(refresh(), &fence).await,
                Ok(false) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(CacheAway) => return self.get_alone(refresh()).await,
            }
        }
        self.get_alone(refresh()).await
    }

    /// Forgets a token that WeChat refused, unless somebody has replaced it already.
    pub async fn discard(&self, token: &str) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(held, _)| held == token);
        let mut script = DISCARD.prepare_invoke();
        script.key(self.key("token")).arg(token);
        // Away: others notice by the same refusal.
        let _: Result<(), CacheAway> = self.cache.run_script("discard_token", &script).await;
    }

    async fn refresh_for_all<E>(
        &self,
        refresh: impl Future<Output = Result<FreshToken, E>>,
        fence: &str,
    ) -> Result<String, E> {
        let fresh = refresh.await;
        let (token, seconds) = match &fresh {
            Ok(fresh) => (fresh.token.as_str(), lifetime(fresh).as_secs()),
            Err(_) => ("", 0),
        };
        let mut script = STORE.prepare_invoke();
        script.key(self.key("token")).key(self.key("token-lock")).arg(fence).arg(token).arg(seconds);
        // Away: the token is still good for this process.
        let _: Result<(), CacheAway> = self.cache.run_script("store_token", &script).await;
        fresh.map(|fresh| self.keep(fresh))
    }

    async fn get_alone<E>(&self, refresh: impl Future<Output = Result<FreshToken, E>>) -> Result<String, E> {
        if let Some(token) = self.own() {
            return Ok(token);
        }
        Ok(self.keep(refresh.await?))
    }

    fn own(&self) -> Option<String> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(token, _)| token.clone())
    }

    fn keep(&self, fresh: FreshToken) -> String {
        let until = Instant::now() + lifetime(&fresh);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        *own = Some((fresh.token.clone(), until));
        fresh.token
    }

    async fn read(&self) -> Result<Option<String>, CacheAway> {
        let mut get = redis::cmd("GET");
        get.arg(self.key("token"));
        self.cache.run("read_token", &get).await
    }

    async fn lock(&self, fence: &str) -> Result<bool, CacheAway> {
        let mut set = redis::cmd("SET");
        set.arg(self.key("token-lock")).arg(fence).arg("NX").arg("EX").arg(LOCK_SECONDS);
        let taken: Option<String> = self.cache.run("lock_token", &set).await?;
        Ok(taken.is_some())
    }

    fn key(&self, name: &str) -> String {
        self.cache.key("official-account", name)
    }
}

/// At least a second, so that a token with a short life is used and not stored for ever.
fn lifetime(fresh: &FreshToken) -> Duration {
    fresh.expires_in.saturating_sub(SPARE).max(Duration::from_secs(1))
}
