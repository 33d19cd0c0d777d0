//! What each worker process tells of its consumers every other second; forgotten shortly after it falls silent.

use std::sync::LazyLock;

use redis::Script;
use serde::{Deserialize, Serialize};

use super::{Cache, CacheAway};

/// A process that was silent for so long is taken to be gone. By Redis's clock: those of the processes may differ.
const SILENCE_SECONDS: u64 = 10;

static TELL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        redis.call('HSET', KEYS[1], ARGV[1], redis.call('TIME')[1] .. ' ' .. ARGV[2])
        redis.call('EXPIRE', KEYS[1], 3600)",
    )
});

static HEAR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local heard, oldest = {}, redis.call('TIME')[1] - ARGV[1]
        local all = redis.call('HGETALL', KEYS[1])
        for i = 1, #all, 2 do
            local at, beats = string.match(all[i + 1], '^(%d+) (.*)$')
            if at and tonumber(at) >= oldest then
                heard[#heard + 1] = beats
            else
                redis.call('HDEL', KEYS[1], all[i])
            end
        end
        return heard",
    )
});

/// One consumer of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub queue: String,
    /// Taken and not settled yet.
    pub in_hand: u32,
    /// How long the oldest of those has been due.
    pub oldest_seconds: Option<u64>,
    pub breaker_open: bool,
    pub last_minute: LastMinute,
}

/// What a consumer settled within the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastMinute {
    pub done: u64,
    pub retried: u64,
    pub parked: u64,
}

impl Cache {
    /// Tells of all consumers of one process; `process` is its own random name.
    pub async fn tell_heartbeats(&self, process: &str, beats: &[Heartbeat]) -> Result<(), CacheAway> {
        let json = serde_json::to_string(beats).expect("plain structs with text keys always serialize");
        let mut script = TELL.prepare_invoke();
        script.key(self.key("heartbeats", "all")).arg(process).arg(json);
        self.run_script("tell_heartbeats", &script).await
    }

    /// The consumers of all processes that live.
    pub async fn heartbeats(&self) -> Result<Vec<Heartbeat>, CacheAway> {
        let mut script = HEAR.prepare_invoke();
        script.key(self.key("heartbeats", "all")).arg(SILENCE_SECONDS);
        let heard: Vec<String> = self.run_script("read_heartbeats", &script).await?;
        // What another release wrote otherwise is left out.
        Ok(heard.iter().filter_map(|beats| serde_json::from_str::<Vec<Heartbeat>>(beats).ok()).flatten().collect())
    }
}
