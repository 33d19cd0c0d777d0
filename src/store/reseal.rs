//! A change of the personal key: how many values each key has sealed, what lacks its key, and sealing anew.

use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgExecutor};

use super::{
    Database, StoreError,
    promise::Item,
    sealed::{Closed, PersonalKeys},
};

/// One transaction's worth: some milliseconds.
const BATCH: i64 = 500;

/// How many values one key has sealed.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct SealedBy {
    /// Empty for the key without a name.
    pub name: String,
    pub openids: i64,
    /// Bodies of dead letters, as the catalogue keeps them.
    pub dead_letters: i64,
}

/// What is sealed, by key. Reads every user and every dead letter.
pub async fn census(db: impl PgExecutor<'_>) -> Result<Vec<SealedBy>, StoreError> {
    Ok(sqlx::query_as("SELECT name, openids, dead_letters FROM sealed_census()").fetch_all(db).await?)
}

impl SealedBy {
    pub fn values(&self) -> i64 {
        self.openids + self.dead_letters
    }
}

/// What none of these keys opens, by the key that sealed it.
pub fn lacking<'a>(census: &'a [SealedBy], keys: &PersonalKeys) -> Vec<&'a SealedBy> {
    let names = keys.names();
    census.iter().filter(|sealed| !names.contains(&sealed.name)).collect()
}

/// The promise that nothing is sealed for good.
pub async fn promise(db: &Database, keys: &PersonalKeys) -> Result<Item, StoreError> {
    let census = census(db.pool()).await?;
    let lacking = lacking(&census, keys);
    Ok(Item {
        checked: census.iter().map(SealedBy::values).sum(),
        broken: lacking.iter().map(|sealed| sealed.values()).sum(),
        rows: lacking.into_iter().map(|sealed| json!(sealed)).collect(),
        ..Item::new("sealed_opens", "what is sealed opens with one of the keys that are configured here")
    })
}

/// What came of one batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Values that the key in force has sealed now.
    pub resealed: u64,
    /// Those that did not open: whose they are, and why.
    pub closed: Vec<(String, Closed)>,
    /// Where the next batch goes on; `None` at the end.
    pub next: Option<String>,
}

/// Where sealed values lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Openids,
    DeadLetters,
}

impl Place {
    pub const ALL: [Self; 2] = [Self::Openids, Self::DeadLetters];

    /// The next values after `after` that another key than `$1` has sealed. A row that is in use is left out: whoever
    /// writes it seals with the key in force, and waiting for it could be waiting crosswise.
    fn find(self) -> &'static str {
        match self {
            Self::Openids => {
                "SELECT user_id, openid FROM users
                  WHERE openid IS NOT NULL AND sealed_by(openid) <> $1 AND user_id > $2
                  ORDER BY user_id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
            }
            Self::DeadLetters => {
                "SELECT letter_id, sealed FROM dead_letters WHERE sealed_by(sealed) <> $1 AND letter_id > $2
                  ORDER BY letter_id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
            }
        }
    }

    fn write(self) -> &'static str {
        match self {
            Self::Openids => {
                "UPDATE users u SET openid = fresh.sealed FROM unnest($1::text[], $2::bytea[]) AS fresh(owner, sealed)
                  WHERE u.user_id = fresh.owner"
            }
            Self::DeadLetters => {
                "UPDATE dead_letters d SET sealed = fresh.sealed FROM unnest($1::text[], $2::bytea[]) AS fresh(owner, sealed)
                  WHERE d.letter_id = fresh.owner"
            }
        }
    }
}

/// Seals anew, with the key in force, the next values after `after` that another key has sealed.
pub async fn batch(db: &Database, keys: &PersonalKeys, place: Place, after: &str) -> Result<Batch, StoreError> {
    let mut step = db.begin("reseal").await?;
    let found: Vec<(String, Vec<u8>)> = sqlx::query_as(place.find())
        .bind(keys.in_force())
        .bind(after)
        .bind(BATCH)
        .fetch_all(&mut *step.transaction)
        .await?;
    let mut batch = Batch { next: found.last().map(|(owner, _)| owner.clone()), ..Batch::default() };
    let (mut owners, mut sealed) = (Vec::new(), Vec::new());
    for (owner, value) in found {
        match keys.open_for(&owner, &value) {
            Ok(plain) => {
                sealed.push(keys.seal_for(&owner, &plain));
                owners.push(owner);
            }
            Err(closed) => batch.closed.push((owner, closed)),
        }
    }
    let written = sqlx::query(place.write()).bind(owners).bind(sealed).execute(&mut *step.transaction).await?;
    batch.resealed = written.rows_affected();
    step.commit().await?;
    Ok(batch)
}
