//! What the ingress must know of each session to refuse a hopeless order at once, without asking PostgreSQL.
//!
//! Cards are added and overwritten, never removed, so that refreshing them cannot undo the card of a session that
//! was added a moment ago. A missing card proves something only while the marker `complete` says that all cards
//! were written lately.

use serde::{Deserialize, Serialize};

use super::{Cache, CacheAway};
use crate::domain::{document::ScheduleDocument, ids::ScheduleId, money::Fen, session_rules::SaleTimes};

/// Refreshed every [`REFRESH_SECONDS`]; the marker survives three missed refreshes, the cards outlive the marker.
pub const REFRESH_SECONDS: u64 = 30;
const COMPLETE_SECONDS: u64 = 120;
const CARD_SECONDS: u64 = 600;

/// One session, as far as an order can be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub price_fen: Fen,
    /// False once the session is cancelled.
    pub open: bool,
    /// Absent in cards of releases before the rules of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<SaleTimes>,
}

impl Card {
    pub fn of(session: &ScheduleDocument) -> Self {
        let times = SaleTimes { opens_at: session.sale_opens_at, closes_at: session.sale_closes_at };
        Self { price_fen: session.price_fen, open: session.status == "open", times: Some(times) }
    }
}

/// What Redis knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Card(Card),
    /// All sessions are known and this is none of them.
    Absent,
    Unknown,
}

impl Known {
    pub(super) fn from_redis(card: Option<&str>, complete: bool) -> Self {
        match card.map(serde_json::from_str) {
            Some(Ok(card)) => Self::Card(card),
            None if complete => Self::Absent,
            None | Some(Err(_)) => Self::Unknown,
        }
    }
}

impl Cache {
    /// Adds to a pipeline the two questions whose answers [`Known::from_redis`] takes.
    pub(super) fn ask_catalogue(&self, pipeline: &mut redis::Pipeline, schedule: ScheduleId) {
        pipeline.get(self.key("schedule", schedule)).exists(self.complete_key());
    }

    /// What is known of a session.
    pub async fn known(&self, schedule: ScheduleId) -> Result<Known, CacheAway> {
        let mut pipeline = redis::pipe();
        self.ask_catalogue(&mut pipeline, schedule);
        let mut connection = self.connection();
        let asked = pipeline.query_async::<(Option<String>, bool)>(&mut connection);
        let (card, complete) = self.call("read_card", asked).await?;
        Ok(Known::from_redis(card.as_deref(), complete))
    }

    /// Writes cards, of one session just added or of many.
    pub async fn put_cards(&self, cards: &[(ScheduleId, Card)]) -> Result<(), CacheAway> {
        for some in cards.chunks(512) {
            let mut pipeline = redis::pipe();
            for (schedule, card) in some {
                let json = serde_json::to_string(card).expect("plain structs with text keys always serialize");
                pipeline.set_ex(self.key("schedule", schedule), json, CARD_SECONDS).ignore();
            }
            let mut connection = self.connection();
            self.call("put_cards", pipeline.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Says that the cards of all sessions have just been written.
    pub async fn mark_catalogue_complete(&self) -> Result<(), CacheAway> {
        let mut mark = redis::cmd("SET");
        mark.arg(self.complete_key()).arg(1).arg("EX").arg(COMPLETE_SECONDS);
        self.run("mark_catalogue", &mark).await
    }

    fn complete_key(&self) -> String {
        self.key("schedules", "complete")
    }
}
