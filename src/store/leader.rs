//! One leader among equal processes, by a session lock of PostgreSQL: it ends with the leader's connection, so a
//! leader that dies leaves nothing to clear away.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{Database, StoreError};

/// A connection that does not answer for this long leads no more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A candidacy for one office. Its connection is its own: a pool may close or hand on a connection at any time,
/// and needs a direct one (no pooler that shares connections between transactions).
pub struct Candidate {
    db: Database,
    office: String,
    connection: Option<PgConnection>,
}

impl Candidate {
    pub fn new(db: Database, office: impl Into<String>) -> Self {
        Self { db, office: office.into(), connection: None }
    }

    /// Whether this process leads now. To be asked before each piece of work; between two questions another may
    /// have taken over, so the work must be harmless when two do it.
    ///
    /// # Errors
    /// PostgreSQL is away. Nobody is known to lead; the next question begins anew.
    pub async fn leads(&mut self) -> Result<bool, StoreError> {
        let asked = timeout(ANSWERS_WITHIN, self.ask()).await;
        let answer = asked.unwrap_or_else(|_| Err(StoreError::Away(sqlx::Error::PoolTimedOut)));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn ask(&mut self) -> Result<bool, StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect(&self.db).await?),
        };
        // Who has the lock is given it again: one statement asks for it and proves that the connection lives.
        Ok(sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(&self.office)
            .fetch_one(connection)
            .await?)
    }

    /// Gives the office up at once, for the next one.
    pub async fn resign(mut self) {
        if let Some(connection) = self.connection.take() {
            // A connection that does not close in peace ends with the process.
            let _ = timeout(ANSWERS_WITHIN, connection.close()).await;
        }
    }
}

async fn connect(db: &Database) -> Result<PgConnection, StoreError> {
    let mut connection = PgConnection::connect_with(&db.pool.connect_options()).await?;
    // A leader whose machine vanished is noticed by the server within half a minute, not after hours.
    for setting in ["SET tcp_keepalives_idle = 10", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3"] {
        sqlx::query(setting).execute(&mut connection).await?;
    }
    Ok(connection)
}
