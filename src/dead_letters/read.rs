//! Reading the queues: what is new goes into the catalogue, what was decided about goes out of its queue.

use std::{collections::HashSet, time::Duration};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{DeadLetters, Failed};
use crate::{
    broker::dead::{self, Letter, Reading},
    domain::{
        calendar::Moment,
        dead_letter::{cause, order_of, shown},
        hex::hex,
        message::{Message, Queue},
    },
    store::{
        dead_letter::{self, Found},
        leader::Candidate,
    },
};

/// Letters entered into the catalogue at a time.
const BATCH: usize = 500;
/// A reading is good for so long while the queue's depth stays the same: one letter may have taken another's place.
const GOOD_FOR_SECONDS: f64 = 30.0;
/// One that missed letters is good for so long: whoever may have died with them in hand has given them back by then.
const GOOD_WITH_MISSED_SECONDS: f64 = 2.0;
/// Readings in a row that one question may cost: letters may come faster than they are read.
const ROUNDS_MAX: u32 = 3;
const TURN_PAUSE: Duration = Duration::from_millis(25);

impl DeadLetters {
    /// Makes the catalogue say what lies in the queues now. Costs a glance at their depths when nothing is new.
    ///
    /// # Errors
    /// A server is away. Nothing is lost: what was not taken is back in its queue.
    pub async fn refresh(&self) -> Result<(), Failed> {
        let this = self.clone();
        // Finished also when the one who asked goes away.
        let reading = tokio::spawn(async move {
            if this.with_news().await?.is_empty() {
                return Ok(());
            }
            let turn = this.take_turn().await?;
            let read = this.read_news().await;
            turn.resign().await;
            read
        });
        // The task ends early only with the process.
        reading.await.unwrap_or(Ok(()))
    }

    /// Reads until there is no news: what comes meanwhile, or what a busy broker did not count at first, is read too.
    async fn read_news(&self) -> Result<(), Failed> {
        for _ in 0..ROUNDS_MAX {
            // Whoever had the turn before us may have read everything.
            let queues = self.with_news().await?;
            if queues.is_empty() {
                break;
            }
            self.read_all(&queues).await?;
        }
        Ok(())
    }

    /// Reads these queues in any case: something was decided about their letters.
    pub(super) async fn read_again(&self, queues: &HashSet<String>) -> Result<(), Failed> {
        let queues: Vec<_> = Queue::DEAD.into_iter().filter(|queue| queues.contains(*queue)).collect();
        let turn = self.take_turn().await?;
        let read = self.read_all(&queues).await;
        turn.resign().await;
        read
    }

    /// One reader at a time, in all processes: while one has the letters in hand, the others would see an empty queue.
    pub(super) async fn take_turn(&self) -> Result<Candidate, Failed> {
        let mut candidate = Candidate::new(self.db.clone(), "dead letters");
        while !candidate.leads().await? {
            tokio::time::sleep(TURN_PAUSE).await;
        }
        Ok(candidate)
    }

    async fn with_news(&self) -> Result<Vec<&'static str>, Failed> {
        let depths = dead::depths(&self.broker.consuming, &Queue::DEAD).await?;
        let known = dead_letter::last_readings(self.db.pool()).await?;
        let is_known = |queue: &str, depth: u32| {
            known.iter().find(|last| last.queue == queue).is_some_and(|last| {
                let good_for = match (last.missed, depth) {
                    (true, _) => GOOD_WITH_MISSED_SECONDS,
                    (false, 0) => f64::INFINITY,
                    (false, _) => GOOD_FOR_SECONDS,
                };
                u32::try_from(last.depth) == Ok(depth) && last.age_seconds < good_for
            })
        };
        let queues = Queue::DEAD.into_iter().zip(depths);
        Ok(queues.filter(|(queue, depth)| !is_known(queue, *depth)).map(|(queue, _)| queue).collect())
    }

    async fn read_all(&self, queues: &[&'static str]) -> Result<(), Failed> {
        for queue in queues {
            self.read(queue).await?;
        }
        Ok(())
    }

    async fn read(&self, queue: &'static str) -> Result<(), Failed> {
        let began = dead_letter::begin_reading(&self.db, queue).await?;
        let depth = dead::depths(&self.broker.consuming, &[queue]).await?;
        if depth == [0] {
            return Ok(dead_letter::end_reading(&self.db, queue, began, 0, true).await?);
        }
        let mut reading = Reading::begin(&self.broker.consuming, queue).await?;
        let mut decided = HashSet::new();
        let mut to_take = Vec::new();
        loop {
            let letters = reading.next(BATCH).await?;
            if letters.is_empty() {
                break;
            }
            let found: Vec<Found> = letters.iter().map(|letter| found(queue, letter)).collect();
            let mut step = self.db.begin("dead_letters.note").await?;
            let to_go = dead_letter::note(&mut step, &self.personal, &found).await?;
            step.commit().await?;
            for (letter, found) in letters.into_iter().zip(found) {
                if to_go.contains(&found.letter_id) {
                    decided.insert(found.letter_id);
                    to_take.push(letter);
                } else {
                    reading.renew(&letter, &self.broker.publisher).await?;
                }
            }
        }
        dead_letter::mark_removed(&self.db, &decided).await?;
        for letter in &to_take {
            reading.take(letter).await?;
        }
        let (depth, complete) = reading.end().await?;
        Ok(dead_letter::end_reading(&self.db, queue, began, depth, complete).await?)
    }
}

/// What a letter says of itself.
fn found(queue: &'static str, letter: &Letter) -> Found {
    let shown = shown(&letter.body);
    let text = |name: &str| letter.header(name).map(str::to_owned);
    let killed = letter
        .given_up_in
        .as_ref()
        .map(|queue| ("delivery_limit".to_owned(), format!("its worker in {queue} died over it again and again")));
    let error_class = text("x-error-class").or_else(|| killed.as_ref().map(|(class, _)| class.clone()));
    let error_class = error_class.unwrap_or_else(|| "unlabelled".into());
    let error = text("x-error").or(killed.map(|(_, error)| error)).unwrap_or_default();
    let attempt = letter.headers.get("x-attempt").and_then(serde_json::Value::as_i64).unwrap_or(1);
    Found {
        letter_id: letter_id(queue, letter),
        queue,
        work_queue: work_queue(queue, letter, &shown),
        kind: letter.kind.clone(),
        order_id: order_of(&letter.kind, &shown, letter.message_id.as_deref()).map(String::from),
        message_id: letter.message_id.clone(),
        cause: cause(queue, &letter.kind, &error_class, &error),
        error_class,
        error,
        worker: text("x-worker"),
        attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
        replay: letter.header("x-replay").and_then(|mark| {
            let (replay, letter) = mark.split_once('/')?;
            Some((Uuid::parse_str(replay).ok()?, letter.to_owned()))
        }),
        failed_at: letter.header("x-first-failed-at").and_then(|at| Moment::parse(at).ok()).map(Moment::get),
        headers: letter.headers.clone(),
        shown,
        body: letter.body.clone(),
    }
}

/// The letter's name: a digest of what stays the same however often it is read, given back, renewed or restored.
fn letter_id(queue: &str, letter: &Letter) -> String {
    let attempt = letter.headers.get("x-attempt").map(ToString::to_string).unwrap_or_default();
    let header = |name| letter.header(name).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [
        queue.as_bytes(),
        letter.kind.as_bytes(),
        letter.message_id.as_deref().unwrap_or_default().as_bytes(),
        header("x-first-failed-at").as_bytes(),
        attempt.as_bytes(),
        header("x-replay").as_bytes(),
        &letter.body,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}

/// Where it came from, else where such a message belongs.
fn work_queue(queue: &str, letter: &Letter, shown: &str) -> Option<String> {
    let belongs = |name: &str| Queue::of_name(name).filter(|work| work.dead() == queue);
    let named = letter.header("x-queue").or(letter.given_up_in.as_deref()).and_then(belongs);
    let by_kind = || Message::read(&letter.kind, shown.as_bytes()).ok().map(|message| message.queue());
    let by_name = || belongs(queue.trim_end_matches(".dead"));
    named.or_else(by_kind).or_else(by_name).map(Queue::name)
}
