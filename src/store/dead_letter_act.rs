//! `dead_letter_acts` and `dead_letter_notes`: who did what to which letters and why, and what people know of a cause.

use serde_json::Value;
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Step, StoreError};

/// Something an operator did.
#[derive(Debug, Clone, FromRow)]
pub struct Act {
    pub act_id: i64,
    pub at: OffsetDateTime,
    pub actor: String,
    pub act: String,
    pub reason: String,
    pub replay_id: Option<Uuid>,
    pub letters: Vec<String>,
    pub details: Json<Value>,
}

/// Something an operator does.
#[derive(Debug)]
pub struct Deed<'a> {
    pub actor: &'a str,
    pub act: &'static str,
    pub reason: &'a str,
    pub replay_id: Option<Uuid>,
    pub letters: &'a [String],
    pub details: Value,
}

/// Writes an act, in the transaction of what it did.
pub async fn write(step: &mut Step<'_>, deed: &Deed<'_>) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_letter_acts (actor, act, reason, replay_id, letters, details) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(deed.actor)
    .bind(deed.act)
    .bind(deed.reason)
    .bind(deed.replay_id)
    .bind(deed.letters)
    .bind(Json(&deed.details))
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// What was done, newest first: in all, or to one letter, its replays included.
pub async fn acts(
    db: impl PgExecutor<'_>,
    letter: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Act>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT act_id, at, actor, act, reason, replay_id, letters, details FROM dead_letter_acts
          WHERE ($1::text IS NULL OR letters @> ARRAY[$1]
                 OR replay_id IN (SELECT replay_id FROM dead_letter_replay_items WHERE letter_id = $1))
            AND ($2::bigint IS NULL OR act_id < $2)
          ORDER BY act_id DESC LIMIT $3",
    )
    .bind(letter)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// What somebody wrote about a cause.
#[derive(Debug, Clone, FromRow)]
pub struct Note {
    pub cause: String,
    pub author: String,
    pub note: String,
    pub written_at: OffsetDateTime,
}

pub async fn write_note(step: &mut Step<'_>, cause: &str, author: &str, note: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO dead_letter_notes (cause, author, note) VALUES ($1, $2, $3)")
        .bind(cause)
        .bind(author)
        .bind(note)
        .execute(&mut *step.transaction)
        .await?;
    Ok(())
}

/// The notes on these causes, oldest first.
pub async fn notes(db: impl PgExecutor<'_>, causes: &[String]) -> Result<Vec<Note>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT cause, author, note, written_at FROM dead_letter_notes WHERE cause = ANY($1) ORDER BY note_id",
    )
    .bind(causes)
    .fetch_all(db)
    .await?)
}

/// Whether any letter ever had this cause.
pub async fn is_cause(db: impl PgExecutor<'_>, cause: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM dead_letters WHERE cause = $1)")
        .bind(cause)
        .fetch_one(db)
        .await?)
}
