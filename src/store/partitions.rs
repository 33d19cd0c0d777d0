//! The months of the audit log and of the trace: made long before their first rows, without making a writer wait.
//!
//! Whatever needs a lock waits for it half a second (migration 0025), fails with [`StoreError::Conflict`] when a long reader
//! such as pg_dump has it, and is to be tried again later.

use sqlx::Row as _;
use time::{Duration, OffsetDateTime};

use super::{Database, StoreError};
use crate::crash;

/// Months made ahead of the present one.
const AHEAD: i32 = 3;
/// Rows that one transaction copies out of a default partition.
const SET: i64 = 5_000;
/// Sets in a row, where rows may come as quickly as they go.
const SETS_MAX: u32 = 1_000;
/// Far longer than any transaction that writes a row lasts.
const LONGEST_STEP: Duration = Duration::HOUR;
/// Of the one statement that locks the whole log.
const LOCKED_WITHIN: &str = "SET LOCAL statement_timeout = '1500ms'";

impl Database {
    /// Makes the partitions of this month and the next ones, of audit log and trace; lets go of the trace's months that are
    /// older than `keep_traces`. Rows in a default partition go to the partitions of their months first.
    ///
    /// # Errors
    /// The first of what failed; the rest was done all the same.
    pub async fn make_partitions(&self, keep_traces: u16) -> Result<(), StoreError> {
        let audit_log = self.make_months_of_audit_log().await;
        let trace = self.make_months_of_trace(keep_traces).await;
        audit_log.and(trace)
    }

    async fn make_months_of_audit_log(&self) -> Result<(), StoreError> {
        let replaced = self.empty_rest_of_audit_log().await;
        let made = sqlx::query("SELECT audit_log_make_partitions($1)").bind(AHEAD);
        crash::around("commit", "partitions.make", made.execute(&self.pool)).await?;
        replaced
    }

    /// Copies what the default partition holds, set by set, and then puts an empty one in its place.
    async fn empty_rest_of_audit_log(&self) -> Result<(), StoreError> {
        let since = loop {
            let set = sqlx::query("SELECT now() AS now, audit_log_copy_rest($1) AS copied").bind(SET);
            let set = set.fetch_one(&self.pool).await?;
            let now: OffsetDateTime = set.try_get("now")?;
            match set.try_get::<Option<i64>, _>("copied")? {
                None => return Ok(()),
                // What comes from here on is copied under the lock.
                Some(copied) if copied < SET => break now - LONGEST_STEP,
                Some(copied) => tracing::info!(copied, "copied rows of the audit log to the table of their month"),
            }
        };
        let mut step = self.begin("partitions.replace_rest").await?;
        sqlx::query(LOCKED_WITHIN).execute(&mut *step.transaction).await?;
        sqlx::query("SELECT audit_log_replace_rest($1)").bind(since).execute(&mut *step.transaction).await?;
        step.commit().await?;
        tracing::info!("emptied the audit log's default partition");
        Ok(())
    }

    async fn make_months_of_trace(&self, keep: u16) -> Result<(), StoreError> {
        // A set is of one month. More may come all the time: what is left after so many is moved under the lock.
        for _ in 0..SETS_MAX {
            let moved: i64 =
                sqlx::query_scalar("SELECT order_trace_move_rest($1)").bind(SET).fetch_one(&self.pool).await?;
            if moved == 0 {
                break;
            }
        }
        let made = sqlx::query("SELECT order_trace_make_partitions($1)").bind(AHEAD);
        crash::around("commit", "partitions.make", made.execute(&self.pool)).await?;
        let gone = sqlx::query("SELECT order_trace_let_go($1)").bind(i32::from(keep));
        crash::around("commit", "partitions.let_go", gone.execute(&self.pool)).await?;
        Ok(())
    }
}
