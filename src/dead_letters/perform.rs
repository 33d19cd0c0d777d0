//! Carrying a replay out: publish, see what comes of it, stop when too much comes back.
//!
//! Everything stands in PostgreSQL, so whoever comes next goes on where somebody stopped. A letter is published and
//! confirmed before it is marked; who dies in between publishes it once more, which changes nothing.

use std::time::{Duration, Instant};

use serde_json::json;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{DeadLetters, Failed, look::MOST};
use crate::{
    broker::{PublishError, dead::Posting},
    domain::{
        dead_letter::{LetterState, ReplayResult, ReplayState, mend, shown},
        message::Message,
        prospect::Prospect,
        timeline::{EntryKind, Trace},
    },
    store::{
        dead_letter::Row,
        dead_letter_act::{self, Deed},
        dead_letter_replay::{self, Replay},
        leader::Candidate,
        trace,
    },
};

/// Letters published at a time, at most.
const BURST: i32 = 250;
/// How long the canary, and at the end the whole, may take to be done or to come back.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at what came of the published letters.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looking takes at most so much of the time.
const LOOKING_SHARE: u32 = 4;

impl DeadLetters {
    /// Carries a replay on until it is finished, paused or cancelled, or `stop`; at once done when somebody else does.
    /// `tell` hears how far it is.
    ///
    /// # Errors
    /// A server is away. The replay is as it was; call again to go on.
    pub async fn perform(
        &self,
        id: Uuid,
        stop: &CancellationToken,
        mut tell: impl FnMut(&Replay),
    ) -> Result<(), Failed> {
        let mut candidate = Candidate::new(self.db.clone(), format!("dead letter replay {id}"));
        let mut performed = Ok(());
        let mut pass = Pass::default();
        while !stop.is_cancelled() && candidate.leads().await? {
            let replay = self.find_replay(id).await?;
            tell(&replay);
            if replay.state != ReplayState::Running {
                break;
            }
            match self.advance(&replay, &mut pass).await {
                Ok(Some(pause)) => tokio::time::sleep(pause).await,
                Ok(None) => {}
                Err(failed) => {
                    performed = Err(failed);
                    break;
                }
            }
        }
        candidate.resign().await;
        performed
    }

    /// One step of a replay; says how long to wait for the next one.
    async fn advance(&self, replay: &Replay, pass: &mut Pass) -> Result<Option<Duration>, Failed> {
        let canary_left = i64::from(replay.canary) - replay.sent() - replay.skipped;
        if replay.published > 0 && pass.look_at.is_none_or(|at| at <= Instant::now()) {
            let began = Instant::now();
            self.settle(replay).await?;
            pass.look_at = Some(Instant::now() + LOOK_EVERY.max(began.elapsed() * LOOKING_SHARE));
            return Ok(None);
        }
        let (failed, of) = (replay.parked_again - replay.excused, replay.sent() - replay.excused);
        if replay.pending > 0 && failed.saturating_mul(100) > of.saturating_mul(replay.stop_percent.into()) {
            let why = format!("{failed} of {of} published letters were parked again");
            return self.stop(replay, &why).await;
        }
        // At the end of the canary, and at the end of all: see what comes of them before going on.
        let at_a_turn = replay.pending == 0 || canary_left <= 0 && !pass.canary_is_over;
        if at_a_turn && replay.published > 0 {
            let since = *pass.waiting_since.get_or_insert_with(Instant::now);
            if since.elapsed() < SETTLES_WITHIN {
                return Ok(Some(LOOK_EVERY));
            }
        }
        if replay.pending == 0 {
            self.finish(replay).await?;
            return Ok(None);
        }
        if canary_left <= 0 {
            pass.canary_is_over = true;
            pass.waiting_since = None;
        }
        let burst = replay.per_second.clamp(1, BURST);
        let most = if canary_left > 0 { canary_left.min(burst.into()) } else { burst.into() };
        let began = Instant::now();
        let sent = self.publish(replay, most).await?;
        // Lost time is not made up for: the rate is never exceeded.
        let due = Duration::from_secs(1) * sent / u32::try_from(replay.per_second).unwrap_or(1).max(1);
        Ok(Some(due.saturating_sub(began.elapsed())))
    }

    /// Publishes the next letters of the set; says how many.
    async fn publish(&self, replay: &Replay, most: i64) -> Result<u32, Failed> {
        let id = replay.replay_id;
        let mut skipped = Vec::new();
        let mut letters = Vec::new();
        let mut traces = Vec::new();
        let mut postings = Vec::new();
        for row in dead_letter_replay::pending(&self.db, id, most).await? {
            match self.posting_of_replay(replay, &row) {
                Ok(posting) => {
                    traces.push(replayed(replay, &row, &posting));
                    letters.push(row.letter_id);
                    postings.push(posting);
                }
                Err(why) => skipped.push((row.letter_id, ReplayResult::Skipped, Some(why))),
            }
        }
        let answers = self.broker.publisher.post(postings).await;
        let mut confirmed = Vec::with_capacity(letters.len());
        let mut told = Vec::with_capacity(letters.len());
        for ((letter, trace), answer) in letters.into_iter().zip(traces).zip(answers) {
            match answer {
                Ok(()) => {
                    confirmed.push(letter);
                    told.extend(trace);
                }
                Err(PublishError::Refused(why)) => {
                    skipped.push((letter, ReplayResult::Skipped, Some(format!("the broker refused it: {why}"))));
                }
                // It may be there or not; the next step publishes it again.
                Err(PublishError::Unconfirmed(_)) => tracing::warn!(%id, "the broker does not confirm a replay"),
            }
        }
        dead_letter_replay::settle(&self.db, id, &skipped).await?;
        dead_letter_replay::mark_published(&self.db, id, &confirmed).await?;
        // Written here and not by `trace::note`: a command keeps no notes. The story lacks a row if it cannot be.
        if let Err(error) = trace::write(&self.db, &told).await {
            tracing::debug!(%error, "the stories of orders do not tell of a replay");
        }
        metrics::counter!("dead_letters_replayed_total").increment(confirmed.len() as u64);
        Ok(u32::try_from(confirmed.len()).unwrap_or(u32::MAX))
    }

    /// The letter as it begins anew; otherwise why it is left out.
    fn posting_of_replay(&self, replay: &Replay, row: &Row) -> Result<Posting, String> {
        if row.state != LetterState::Parked {
            return Err(format!("it is {} already", row.state.as_str()));
        }
        let body = row.body(&self.personal).ok_or("another key sealed it")?;
        let body = match &replay.patch {
            Some(patch) => {
                mend(&row.kind, &body, row.message_id.as_deref(), &patch.0).map_err(|why| why.to_string())?
            }
            None => body,
        };
        let message = Message::read(&row.kind, &body).map_err(|unreadable| unreadable.to_string())?;
        // Of a mended message also the queue may be another one: orders go by their session.
        let queue = match (&replay.patch, &row.work_queue) {
            (None, Some(queue)) => queue.clone(),
            (Some(_), _) | (None, None) => message.queue().name(),
        };
        Ok(Posting {
            queue,
            kind: row.kind.clone(),
            message_id: Some(message.key()),
            headers: Posting::headers_of_replay(&row.headers.0, format!("{}/{}", replay.replay_id, row.letter_id)),
            body,
        })
    }

    /// Looks what came of published letters: those that came back are entered by the reading, the others are done
    /// when the books say so.
    async fn settle(&self, replay: &Replay) -> Result<(), Failed> {
        self.refresh().await?;
        let id = replay.replay_id;
        let mut rows = dead_letter_replay::unsettled(&self.db, id, MOST).await?;
        if let Some(patch) = &replay.patch {
            // What it lay there as says nothing of what it went out as.
            for row in &mut rows {
                let body = row.body(&self.personal).unwrap_or_default();
                if let Ok(mended) = mend(&row.kind, &body, row.message_id.as_deref(), &patch.0) {
                    row.shown = shown(&mended);
                }
            }
        }
        let judged = self.judge(rows).await?;
        let done = judged.into_iter().filter(|letter| letter.effect == Prospect::DoneAlready);
        let done: Vec<_> = done.map(|letter| (letter.row.letter_id, ReplayResult::Done, None)).collect();
        Ok(dead_letter_replay::settle(&self.db, id, &done).await?)
    }

    async fn stop(&self, replay: &Replay, why: &str) -> Result<Option<Duration>, Failed> {
        tracing::error!(replay_id = %replay.replay_id, why, "a replay paused by itself");
        let mut step = self.db.begin("dead_letters.stop").await?;
        let id = replay.replay_id;
        if dead_letter_replay::turn(&mut step, id, &[ReplayState::Running], ReplayState::Paused, Some(why)).await? {
            let details = json!({ "parked_again": replay.parked_again, "published": replay.sent() });
            let deed = Deed { actor: "holdfast", act: "stop", reason: why, replay_id: Some(id), letters: &[], details };
            dead_letter_act::write(&mut step, &deed).await?;
        }
        step.commit().await?;
        Ok(None)
    }

    async fn finish(&self, replay: &Replay) -> Result<(), Failed> {
        let mut step = self.db.begin("dead_letters.finish").await?;
        let (id, running) = (replay.replay_id, [ReplayState::Running]);
        dead_letter_replay::turn(&mut step, id, &running, ReplayState::Finished, None).await?;
        step.commit().await?;
        // What was replayed leaves its queue now.
        let queues = dead_letter_replay::queues(self.db.pool(), id).await?;
        self.read_again(&queues.into_iter().collect()).await
    }
}

/// What the story of the letter's order tells of it, if it is of one.
fn replayed(replay: &Replay, row: &Row, posting: &Posting) -> Option<Trace> {
    Some(Trace {
        order_id: row.order_id.clone()?,
        at: OffsetDateTime::now_utc(),
        kind: EntryKind::Message,
        what: row.kind.clone(),
        outcome: "replayed".to_owned(),
        who: Some(replay.created_by.clone()),
        request_id: None,
        took_ms: None,
        details: Some(json!({
            "queue": posting.queue, "key": posting.message_id, "replay_id": replay.replay_id, "reason": replay.reason,
        })),
    })
}

/// What one performer remembers between two steps.
#[derive(Default)]
struct Pass {
    look_at: Option<Instant>,
    waiting_since: Option<Instant>,
    canary_is_over: bool,
}
