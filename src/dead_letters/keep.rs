//! What goes on without anybody asking: replays are carried on, and the catalogue and its metrics follow the queues.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{DeadLetters, Failed};
use crate::{domain::message::Queue, store};

/// How soon a replay that nobody carries out is carried on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two glances at the queues.
const GLANCE_EVERY: Duration = Duration::from_secs(10);

impl DeadLetters {
    /// Looks after replays and catalogue until `stop`. Several processes may: a replay is carried out by one of them.
    pub async fn look_after(self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let in_hand = Arc::new(Mutex::new(HashSet::new()));
        let mut glanced: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.carry_on(&in_hand, &stop).await {
                tracing::warn!(%error, "nobody is known to wait for a replay");
            }
            if glanced.is_none_or(|at| at.elapsed() >= GLANCE_EVERY) {
                glanced = Some(Instant::now());
                if let Err(error) = self.glance().await {
                    tracing::warn!(%error, "the dead-letter queues could not be read");
                }
            }
        }
    }

    async fn carry_on(
        &self,
        in_hand: &Arc<Mutex<HashSet<uuid::Uuid>>>,
        stop: &CancellationToken,
    ) -> Result<(), Failed> {
        for id in store::dead_letter_replay::running(self.db.pool()).await? {
            if !in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
                continue;
            }
            let (this, in_hand, stop) = (self.clone(), in_hand.clone(), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = this.perform(id, &stop, |_| {}).await {
                    tracing::warn!(replay_id = %id, %error, "a replay waits");
                }
                in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            });
        }
        Ok(())
    }

    async fn glance(&self) -> Result<(), Failed> {
        self.refresh().await?;
        let parked = store::dead_letter::parked_by_queue(self.db.pool()).await?;
        for queue in Queue::DEAD {
            let count = parked.iter().find(|(name, _)| name == queue).map_or(0, |(_, count)| *count);
            metrics::gauge!("dead_letters", "queue" => queue).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        Ok(())
    }
}
