//! `dead_letter_replays` and their items: sets of letters, frozen when they were asked for, and how far each is.

use serde_json::Value;
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Database, Step, StoreError, dead_letter::Row};
use crate::{
    crash,
    domain::{
        dead_letter::{LetterState, ReplayResult, ReplayState},
        prospect::Prospect,
    },
};

/// A replay that is asked for.
#[derive(Debug, Clone)]
pub struct NewReplay {
    pub replay_id: Uuid,
    pub hash: String,
    pub state: ReplayState,
    pub asked: Value,
    pub patch: Option<Value>,
    pub effects: Value,
    pub reason: String,
    pub created_by: String,
    pub canary: i32,
    pub per_second: i32,
    pub stop_percent: i32,
}

/// A replay, and how many of its letters have come to what.
#[derive(Debug, Clone, FromRow)]
pub struct Replay {
    pub replay_id: Uuid,
    pub hash: String,
    pub state: ReplayState,
    pub paused_why: Option<String>,
    pub asked: Json<Value>,
    pub patch: Option<Json<Value>>,
    pub effects: Json<Value>,
    pub reason: String,
    pub created_by: String,
    pub canary: i32,
    pub per_second: i32,
    pub stop_percent: i32,
    pub excused: i64,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    pub letters: i64,
    pub pending: i64,
    pub published: i64,
    pub done: i64,
    pub parked_again: i64,
    pub skipped: i64,
}

impl Replay {
    /// With the broker, whatever came of them.
    pub fn sent(&self) -> i64 {
        self.published + self.done + self.parked_again
    }
}

/// Stores a replay with its set.
pub async fn create(step: &mut Step<'_>, new: &NewReplay, set: &[(String, Prospect)]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_letter_replays (replay_id, hash, state, asked, patch, effects, reason, created_by, canary, per_second,
                                          stop_percent, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $3 = 'running'::dead_letter_replay_state THEN now() END)",
    )
    .bind(new.replay_id)
    .bind(&new.hash)
    .bind(new.state)
    .bind(Json(&new.asked))
    .bind(new.patch.as_ref().map(Json))
    .bind(Json(&new.effects))
    .bind(&new.reason)
    .bind(&new.created_by)
    .bind(new.canary)
    .bind(new.per_second)
    .bind(new.stop_percent)
    .execute(&mut *step.transaction)
    .await?;
    sqlx::query(
        "INSERT INTO dead_letter_replay_items (replay_id, place, letter_id, effect)
         SELECT $1, place, letter_id, effect FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS t(letter_id, effect, place)",
    )
    .bind(new.replay_id)
    .bind(set.iter().map(|(letter, _)| letter.as_str()).collect::<Vec<_>>())
    .bind(set.iter().map(|(_, effect)| effect.as_str()).collect::<Vec<_>>())
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// A replay; `None` when there is none of this name.
pub async fn find(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<Replay>, StoreError> {
    Ok(select(db, Some(id), None, 1).await?.pop())
}

/// Replays, newest first, after this one.
pub async fn list(
    db: impl PgExecutor<'_>,
    after: Option<(OffsetDateTime, Uuid)>,
    limit: i64,
) -> Result<Vec<Replay>, StoreError> {
    select(db, None, after, limit).await
}

async fn select(
    db: impl PgExecutor<'_>,
    id: Option<Uuid>,
    after: Option<(OffsetDateTime, Uuid)>,
    limit: i64,
) -> Result<Vec<Replay>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT r.replay_id, r.hash, r.state, r.paused_why, r.asked, r.patch, r.effects, r.reason,
                r.created_by, r.canary, r.per_second, r.stop_percent, r.excused, r.created_at,
                r.started_at, r.finished_at, i.letters, i.pending, i.published, i.done,
                i.parked_again, i.skipped
           FROM dead_letter_replays r,
                LATERAL (SELECT count(*) AS letters,
                                count(*) FILTER (WHERE result = 'pending') AS pending,
                                count(*) FILTER (WHERE result = 'published') AS published,
                                count(*) FILTER (WHERE result = 'done') AS done,
                                count(*) FILTER (WHERE result = 'parked_again') AS parked_again,
                                count(*) FILTER (WHERE result = 'skipped') AS skipped
                           FROM dead_letter_replay_items WHERE replay_id = r.replay_id) i
          WHERE ($1::uuid IS NULL OR r.replay_id = $1)
            AND ($2::timestamptz IS NULL OR (r.created_at, r.replay_id) < ($2, $3))
          ORDER BY r.created_at DESC, r.replay_id DESC
          LIMIT $4",
    )
    .bind(id)
    .bind(after.map(|(at, _)| at))
    .bind(after.map(|(_, id)| id))
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The replays that somebody must carry on.
pub async fn running(db: impl PgExecutor<'_>) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar("SELECT replay_id FROM dead_letter_replays WHERE state = 'running' ORDER BY created_at")
        .fetch_all(db)
        .await?)
}

/// Moves a replay from one of these states; `false` when it is in another.
pub async fn turn(
    step: &mut Step<'_>,
    id: Uuid,
    from: &[ReplayState],
    to: ReplayState,
    why: Option<&str>,
) -> Result<bool, StoreError> {
    let turned = sqlx::query(
        "UPDATE dead_letter_replays
            SET state = $3, paused_why = $4,
                excused = CASE WHEN $3 = 'running'::dead_letter_replay_state
                    THEN (SELECT count(*) FROM dead_letter_replay_items i WHERE i.replay_id = $1 AND i.result = 'parked_again')
                    ELSE excused END,
                started_at = CASE WHEN $3 = 'running'::dead_letter_replay_state THEN coalesce(started_at, now()) ELSE started_at END,
                finished_at = CASE WHEN $3 IN ('finished'::dead_letter_replay_state, 'cancelled') THEN now() END
          WHERE replay_id = $1 AND state = ANY($2)",
    )
    .bind(id)
    .bind(from)
    .bind(to)
    .bind(why)
    .execute(&mut *step.transaction)
    .await?;
    Ok(turned.rows_affected() > 0)
}

/// One letter of a replay, as people read it.
#[derive(Debug, Clone, FromRow)]
pub struct Item {
    pub place: i32,
    pub letter_id: String,
    pub effect: String,
    pub result: ReplayResult,
    pub detail: Option<String>,
    pub published_at: Option<OffsetDateTime>,
    pub kind: String,
    pub order_id: Option<String>,
    pub message_id: Option<String>,
}

/// The letters of a replay, after this place.
pub async fn items(db: impl PgExecutor<'_>, id: Uuid, after: i32, limit: i64) -> Result<Vec<Item>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT i.place, i.letter_id, i.effect, i.result, i.detail, i.published_at, d.kind, d.order_id, d.message_id
           FROM dead_letter_replay_items i JOIN dead_letters d USING (letter_id)
          WHERE i.replay_id = $1 AND i.place > $2 ORDER BY i.place LIMIT $3",
    )
    .bind(id)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// What a letter came to in each replay, newest first: replay, result, detail, when it was published.
pub async fn of_letter(
    db: impl PgExecutor<'_>,
    letter: &str,
) -> Result<Vec<(Uuid, ReplayResult, Option<String>, Option<OffsetDateTime>)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT replay_id, result, detail, published_at FROM dead_letter_replay_items JOIN dead_letter_replays r USING (replay_id)
          WHERE letter_id = $1 ORDER BY r.created_at DESC LIMIT 100",
    )
    .bind(letter)
    .fetch_all(db)
    .await?)
}

/// The next letters to be published, in the set's order.
pub async fn pending(db: &Database, id: Uuid, limit: i64) -> Result<Vec<Row>, StoreError> {
    open(db, id, ReplayResult::Pending, limit).await
}

/// Letters of which nobody knows yet what came of them.
pub async fn unsettled(db: &Database, id: Uuid, limit: i64) -> Result<Vec<Row>, StoreError> {
    open(db, id, ReplayResult::Published, limit).await
}

async fn open(db: &Database, id: Uuid, result: ReplayResult, limit: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT d.letter_id, d.queue, d.work_queue, d.state, d.kind, d.message_id, d.order_id, d.error_class,
                d.error, d.cause, d.worker, d.attempt, d.replay_id, d.failed_at, d.headers, d.shown,
                d.sealed, d.removed_at
           FROM dead_letter_replay_items i JOIN dead_letters d USING (letter_id)
          WHERE i.replay_id = $1 AND i.result = $2 ORDER BY i.place LIMIT $3",
    )
    .bind(id)
    .bind(result)
    .bind(limit)
    .fetch_all(db.pool())
    .await?)
}

/// Letters that the broker has confirmed: the letter is replayed, its item published.
pub async fn mark_published(db: &Database, id: Uuid, letters: &[String]) -> Result<(), StoreError> {
    let mut step = db.begin("dead_letters.published").await?;
    sqlx::query(
        "UPDATE dead_letter_replay_items SET result = 'published', published_at = now()
          WHERE replay_id = $1 AND letter_id = ANY($2) AND result = 'pending'",
    )
    .bind(id)
    .bind(letters)
    .execute(&mut *step.transaction)
    .await?;
    super::dead_letter::set_state(&mut step, letters, LetterState::Replayed).await?;
    step.commit().await
}

/// What became of some letters of a replay.
pub async fn settle(
    db: &Database,
    id: Uuid,
    settled: &[(String, ReplayResult, Option<String>)],
) -> Result<(), StoreError> {
    let results = sqlx::query(
        "UPDATE dead_letter_replay_items i SET result = t.result, detail = t.detail
           FROM unnest($2::text[], $3::dead_letter_result[], $4::text[]) AS t(letter_id, result, detail)
          WHERE i.replay_id = $1 AND i.letter_id = t.letter_id AND i.result IN ('pending', 'published')",
    )
    .bind(id)
    .bind(settled.iter().map(|(letter, _, _)| letter.as_str()).collect::<Vec<_>>())
    .bind(settled.iter().map(|(_, result, _)| *result).collect::<Vec<_>>())
    .bind(settled.iter().map(|(_, _, detail)| detail.as_deref()).collect::<Vec<_>>());
    crash::around("commit", "dead_letters.settle", results.execute(db.pool())).await?;
    Ok(())
}

/// The dead-letter queues of a replay's letters.
pub async fn queues(db: impl PgExecutor<'_>, id: Uuid) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT d.queue FROM dead_letter_replay_items i JOIN dead_letters d USING (letter_id)
          WHERE i.replay_id = $1 AND d.state = 'replayed' AND d.removed_at IS NULL",
    )
    .bind(id)
    .fetch_all(db)
    .await?)
}
