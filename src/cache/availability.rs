//! Free seats per session, so that a thousand customers looking at one session cost one query in three seconds.

use std::sync::LazyLock;

use redis::Script;

use super::{Cache, CacheAway};
use crate::domain::{document::Availability, ids::ScheduleId};

/// How stale a picture may be when a writer could not reach Redis to withdraw it.
const PICTURE_SECONDS: u64 = 3;
/// Far longer than any read of PostgreSQL takes.
const GENERATION_SECONDS: u64 = 60 * 60;

/// Stores a picture unless a writer came between the reader's look at PostgreSQL and now.
static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
            redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
        end",
    )
});

/// What Redis says about a session's seats.
#[derive(Debug)]
pub enum Picture {
    Warm(Availability),
    /// Not there: read PostgreSQL and hand the result over with this generation.
    Cold(Generation),
}

/// Counts the changes of a session's seats; taken before PostgreSQL is read.
#[derive(Debug)]
pub struct Generation(Option<String>);

impl Cache {
    pub async fn availability(&self, schedule: ScheduleId) -> Result<Picture, CacheAway> {
        let mut ask = redis::cmd("MGET");
        ask.arg(self.key("availability", schedule)).arg(self.key("generation", schedule));
        let (picture, generation): (Option<String>, Option<String>) = self.run("read_availability", &ask).await?;
        let picture = picture.and_then(|json| serde_json::from_str(&json).ok());
        Ok(picture.map_or(Picture::Cold(Generation(generation)), Picture::Warm))
    }

    pub async fn fill_availability(
        &self,
        schedule: ScheduleId,
        generation: Generation,
        picture: &Availability,
    ) -> Result<(), CacheAway> {
        let json = serde_json::to_string(picture).expect("plain structs with text keys always serialize");
        let mut script = FILL.prepare_invoke();
        script
            .key(self.key("availability", schedule))
            .key(self.key("generation", schedule))
            .arg(generation.0.unwrap_or_default())
            .arg(json)
            .arg(PICTURE_SECONDS);
        self.run_script("fill_availability", &script).await
    }

    /// Withdraws the pictures of sessions whose seats have changed. Called after the commit.
    pub async fn invalidate(&self, schedules: &[ScheduleId]) -> Result<(), CacheAway> {
        if schedules.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for schedule in schedules {
            let generation = self.key("generation", schedule);
            pipeline.incr(&generation, 1).ignore();
            pipeline.expire(&generation, GENERATION_SECONDS.cast_signed()).ignore();
            pipeline.del(self.key("availability", schedule)).ignore();
        }
        let mut connection = self.connection();
        let done = pipeline.query_async(&mut connection);
        self.call("invalidate_availability", done).await
    }
}
