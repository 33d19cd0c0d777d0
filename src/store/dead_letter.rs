//! `dead_letters`: the catalogue of what lies in the dead-letter queues. The queues are the truth about what is
//! parked; the rows make it quick to search, and remember what was decided about each.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Database, SPARE_ROWS, Step, StoreError, readable, sealed::PersonalKeys};
use crate::{
    crash,
    domain::{dead_letter::LetterState, ids::OrderId},
};

/// A letter as a reading found it.
#[derive(Debug, Clone)]
pub struct Found {
    pub letter_id: String,
    pub queue: &'static str,
    pub work_queue: Option<String>,
    pub kind: String,
    pub message_id: Option<String>,
    pub order_id: Option<String>,
    pub error_class: String,
    pub error: String,
    pub cause: String,
    pub worker: Option<String>,
    pub attempt: i32,
    /// The replay and the letter that it comes from, when it failed again.
    pub replay: Option<(Uuid, String)>,
    pub failed_at: Option<OffsetDateTime>,
    pub headers: Map<String, Value>,
    pub shown: String,
    pub body: Vec<u8>,
}

/// A letter of the catalogue, all but what is sealed.
#[derive(Debug, Clone, FromRow)]
pub struct Row {
    pub letter_id: String,
    pub queue: String,
    pub work_queue: Option<String>,
    pub state: LetterState,
    pub kind: String,
    pub message_id: Option<String>,
    pub order_id: Option<String>,
    pub error_class: String,
    pub error: String,
    pub cause: String,
    pub worker: Option<String>,
    pub attempt: i32,
    pub replay_id: Option<Uuid>,
    pub failed_at: OffsetDateTime,
    pub headers: Json<Map<String, Value>>,
    pub shown: String,
    sealed: Vec<u8>,
    pub removed_at: Option<OffsetDateTime>,
}

impl Row {
    /// The true body; `None` when its key is not at hand.
    pub fn body(&self, keys: &PersonalKeys) -> Option<Vec<u8>> {
        keys.open_for(&self.letter_id, &self.sealed).ok()
    }
}

/// Which letters.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<LetterState>,
    /// `prepay.dead`, or the work queue: `prepay`, `orders.3`.
    pub queue: Option<String>,
    pub error_class: Option<String>,
    pub kind: Option<String>,
    pub order_id: Option<String>,
    pub cause: Option<String>,
    /// Somewhere in the error, the body or the message's id, whatever the case.
    pub text: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    pub letters: Option<Vec<String>>,
}

/// Where a page begins: after this letter.
#[derive(Debug, Clone)]
pub struct Cursor {
    pub failed_at: OffsetDateTime,
    pub letter_id: String,
}

/// At most `limit` letters, newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    let rows = sqlx::query(
        "SELECT letter_id, queue, work_queue, state, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                replay_id, failed_at, headers, shown, sealed, removed_at
           FROM dead_letters
          WHERE ($1::dead_letter_state IS NULL OR state = $1)
            AND ($2::text IS NULL OR $2 IN (queue, work_queue) OR queue = $2 || '.dead')
            AND ($3::text IS NULL OR error_class = $3)
            AND ($4::text IS NULL OR kind = $4)
            AND ($5::text IS NULL OR order_id = $5)
            AND ($6::text IS NULL OR cause = $6)
            AND ($7::text IS NULL OR strpos(lower(concat_ws(' ', error, message_id, shown)), lower($7)) > 0)
            AND ($8::timestamptz IS NULL OR failed_at >= $8)
            AND ($9::timestamptz IS NULL OR failed_at < $9)
            AND ($10::text[] IS NULL OR letter_id = ANY($10))
            AND ($11::timestamptz IS NULL OR (failed_at, letter_id) < ($11, $12))
          ORDER BY failed_at DESC, letter_id DESC
          LIMIT $13",
    )
    .bind(filter.state)
    .bind(&filter.queue)
    .bind(&filter.error_class)
    .bind(&filter.kind)
    .bind(&filter.order_id)
    .bind(&filter.cause)
    .bind(&filter.text)
    .bind(filter.since)
    .bind(filter.until)
    .bind(&filter.letters)
    .bind(after.map(|cursor| cursor.failed_at))
    .bind(after.map(|cursor| &cursor.letter_id))
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    Ok(readable("dead_letters", &rows, limit))
}

/// One letter.
pub async fn find(db: impl PgExecutor<'_>, id: &str) -> Result<Option<Row>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT letter_id, queue, work_queue, state, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                replay_id, failed_at, headers, shown, sealed, removed_at
           FROM dead_letters WHERE letter_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?)
}

/// A letter about one order, as its story needs it.
#[derive(Debug, Clone, FromRow)]
pub struct OfOrder {
    pub letter_id: String,
    pub state: LetterState,
    pub kind: String,
    pub message_id: Option<String>,
    pub error_class: String,
    pub error: String,
    pub worker: Option<String>,
    pub failed_at: OffsetDateTime,
    /// The body, openids masked.
    pub shown: String,
}

/// At most `limit` letters about an order, oldest first.
pub async fn of_order(db: impl PgExecutor<'_>, order: &OrderId, limit: i64) -> Result<Vec<OfOrder>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT letter_id, state, kind, message_id, error_class, error, worker, failed_at, shown FROM dead_letters
          WHERE order_id = $1 ORDER BY failed_at, letter_id LIMIT $2",
    )
    .bind(order)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The parked letters of each queue.
pub async fn parked_by_queue(db: impl PgExecutor<'_>) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query_as("SELECT queue, count(*) FROM dead_letters WHERE state = 'parked' GROUP BY queue")
        .fetch_all(db)
        .await?)
}

/// When a queue was read last.
#[derive(Debug, Clone, FromRow)]
pub struct LastReading {
    pub queue: String,
    pub depth: i32,
    /// Seconds since then, by the database's clock.
    pub age_seconds: f64,
    /// It missed letters; the next one decides.
    pub missed: bool,
}

pub async fn last_readings(db: impl PgExecutor<'_>) -> Result<Vec<LastReading>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT queue, depth, extract(epoch FROM now() - read_at)::float8 AS age_seconds,
                EXISTS (SELECT FROM dead_letters d WHERE d.queue = r.queue AND d.missed AND d.removed_at IS NULL) AS missed
           FROM dead_letter_readings r",
    )
    .fetch_all(db)
    .await?)
}

/// Notes that a queue is being read: until the reading has ended, its depth tells nobody anything. Answers the
/// database's clock, for [`end_reading`].
pub async fn begin_reading(db: &Database, queue: &str) -> Result<OffsetDateTime, StoreError> {
    let began = sqlx::query_scalar(
        "INSERT INTO dead_letter_readings (queue, read_at, depth) VALUES ($1, now(), -1)
         ON CONFLICT (queue) DO UPDATE SET depth = -1 RETURNING now()",
    )
    .bind(queue);
    Ok(crash::around("commit", "dead_letters.begin_reading", began.fetch_one(db.pool())).await?)
}

/// Enters letters into the catalogue; answers those of them that an operator has decided to take out of their queue.
pub async fn note(step: &mut Step<'_>, keys: &PersonalKeys, found: &[Found]) -> Result<HashSet<String>, StoreError> {
    // The broker may hold copies of one publish: they are one letter.
    let mut seen = HashSet::new();
    let found: Vec<&Found> = found.iter().filter(|letter| seen.insert(&letter.letter_id)).collect();
    let texts = |of: fn(&Found) -> Option<String>| found.iter().map(|letter| of(letter)).collect::<Vec<_>>();
    // What was taken out of its queue and is there again has failed again with the same words.
    let rows: Vec<(String, LetterState, bool)> = sqlx::query_as(
        "INSERT INTO dead_letters AS known
                (letter_id, queue, work_queue, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                 replay_id, replay_of, failed_at, headers, shown, sealed)
         SELECT letter_id, queue, work_queue, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                replay_id, replay_of, coalesce(failed_at, now()), headers, shown, sealed
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                       $9::text[], $10::text[], $11::int[], $12::uuid[], $13::text[], $14::timestamptz[], $15::jsonb[],
                       $16::text[], $17::bytea[])
             AS t(letter_id, queue, work_queue, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                  replay_id, replay_of, failed_at, headers, shown, sealed)
          ORDER BY letter_id
         ON CONFLICT (letter_id) DO UPDATE
            SET seen_at = now(), missed = false, removed_at = NULL,
                state = CASE WHEN known.state = 'gone' OR known.removed_at IS NOT NULL THEN 'parked' ELSE known.state END
         RETURNING letter_id, state, seen_at = now() AND xmax = 0",
    )
    .bind(texts(|letter| Some(letter.letter_id.clone())))
    .bind(texts(|letter| Some(letter.queue.to_owned())))
    .bind(texts(|letter| letter.work_queue.clone()))
    .bind(texts(|letter| Some(letter.kind.clone())))
    .bind(texts(|letter| letter.message_id.clone()))
    .bind(texts(|letter| letter.order_id.clone()))
    .bind(texts(|letter| Some(letter.error_class.clone())))
    .bind(texts(|letter| Some(letter.error.clone())))
    .bind(texts(|letter| Some(letter.cause.clone())))
    .bind(texts(|letter| letter.worker.clone()))
    .bind(found.iter().map(|letter| letter.attempt).collect::<Vec<_>>())
    .bind(found.iter().map(|letter| letter.replay.as_ref().map(|(replay, _)| *replay)).collect::<Vec<_>>())
    .bind(texts(|letter| letter.replay.as_ref().map(|(_, of)| of.clone())))
    .bind(found.iter().map(|letter| letter.failed_at).collect::<Vec<_>>())
    .bind(found.iter().map(|letter| Json(letter.headers.clone())).collect::<Vec<_>>())
    .bind(texts(|letter| Some(letter.shown.clone())))
    .bind(found.iter().map(|letter| keys.seal_for(&letter.letter_id, &letter.body)).collect::<Vec<_>>())
    .fetch_all(&mut *step.transaction)
    .await?;
    let fresh: Vec<&str> = rows.iter().filter(|(_, _, is_new)| *is_new).map(|(id, _, _)| id.as_str()).collect();
    sqlx::query(
        "UPDATE dead_letter_replay_items i SET result = 'parked_again', detail = d.error_class || ': ' || d.error
           FROM dead_letters d
          WHERE d.letter_id = ANY($1) AND i.replay_id = d.replay_id AND i.letter_id = d.replay_of",
    )
    .bind(&fresh)
    .execute(&mut *step.transaction)
    .await?;
    let decided = |state: &LetterState| matches!(state, LetterState::Replayed | LetterState::Discarded);
    Ok(rows.iter().filter(|(_, state, _)| decided(state)).map(|(id, _, _)| id.clone()).collect())
}

/// Notes what will be taken out of its queue, before it is.
pub async fn mark_removed(db: &Database, letters: &HashSet<String>) -> Result<(), StoreError> {
    let removed = sqlx::query("UPDATE dead_letters SET removed_at = now() WHERE letter_id = ANY($1)")
        .bind(letters.iter().collect::<Vec<_>>());
    crash::around("commit", "dead_letters.mark_removed", removed.execute(db.pool())).await?;
    Ok(())
}

/// Closes a reading that began at `began`: what it and the one before did not see is not in the queue any more.
pub async fn end_reading(
    db: &Database,
    queue: &str,
    began: OffsetDateTime,
    depth: u32,
    complete: bool,
) -> Result<(), StoreError> {
    let mut step = db.begin("dead_letters.end_reading").await?;
    if complete {
        sqlx::query(
            "UPDATE dead_letters SET missed = true, removed_at = CASE WHEN missed THEN now() END,
                    state = CASE WHEN missed AND state = 'parked' THEN 'gone' ELSE state END
              WHERE queue = $1 AND seen_at < $2 AND removed_at IS NULL",
        )
        .bind(queue)
        .bind(began)
        .execute(&mut *step.transaction)
        .await?;
    }
    sqlx::query(
        "INSERT INTO dead_letter_readings (queue, read_at, depth) VALUES ($1, now(), $2)
         ON CONFLICT (queue) DO UPDATE SET read_at = now(), depth = $2",
    )
    .bind(queue)
    .bind(i32::try_from(depth).unwrap_or(i32::MAX))
    .execute(&mut *step.transaction)
    .await?;
    step.commit().await
}

/// Locks those of these letters that are in this state; the others are left out.
pub async fn lock(step: &mut Step<'_>, letters: &[String], state: LetterState) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT letter_id, queue, work_queue, state, kind, message_id, order_id, error_class, error, cause, worker, attempt,
                replay_id, failed_at, headers, shown, sealed, removed_at
           FROM dead_letters WHERE letter_id = ANY($1) AND state = $2 ORDER BY letter_id FOR UPDATE",
    )
    .bind(letters)
    .bind(state)
    .fetch_all(&mut *step.transaction)
    .await?)
}

/// Decides about letters.
pub async fn set_state(step: &mut Step<'_>, letters: &[String], state: LetterState) -> Result<(), StoreError> {
    // What is back in its queue is in it.
    sqlx::query(
        "UPDATE dead_letters SET state = $2, seen_at = now(), missed = false,
                removed_at = CASE WHEN $2 = 'parked'::dead_letter_state THEN NULL ELSE removed_at END
          WHERE letter_id = ANY($1)",
    )
    .bind(letters)
    .bind(state)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}
