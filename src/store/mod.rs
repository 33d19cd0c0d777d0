//! PostgreSQL: the truth, and the only place with SQL. One file per aggregate.
//!
//! Functions that read take any executor; functions that change take the open transaction of the step
//! they belong to, so that one commit carries the whole step. No transaction is open during an outside call.

/// SQL: whether an open case asks a person about the refund with this number. It is not sent to WeChat meanwhile. A
/// merchant account without money is nobody's decision about a refund: that refund is repeated.
macro_rules! asks_person {
    ($number:literal) => {
        concat!(
            "EXISTS (SELECT FROM cases person WHERE person.subject = ",
            $number,
            " AND person.status = 'open' AND person.kind <> 'merchant_balance')"
        )
    };
}

pub mod audit;
pub mod bill;
pub mod books;
pub mod cancellation;
pub mod case;
pub mod dead_letter;
pub mod dead_letter_act;
pub mod dead_letter_replay;
pub mod doubt;
pub mod ending;
pub mod errors;
pub mod failure;
pub mod fairness;
pub mod hold;
pub mod leader;
pub mod limits;
pub mod notification;
pub mod order;
pub mod order_history;
pub mod order_search;
pub mod override_effects;
pub mod overrides;
mod partitions;
pub mod payment;
mod payment_books;
pub mod promise;
pub mod prospect;
pub mod refund;
pub mod refund_foreign;
pub mod refund_person;
pub mod refund_request;
mod replay;
pub mod reseal;
pub mod retention;
pub mod rights;
pub mod schedule;
pub mod sealed;
mod seat;
pub mod seating;
pub mod standing;
pub mod sweep;
pub mod timeline;
pub mod trace;
mod types;
pub mod user;
pub mod verify;
pub mod waitlist;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use sqlx::{
    Connection as _, FromRow, PgConnection, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use crate::crash;

use failure::Meaning;
use rights::RIGHTS;

/// A place in the pool and a connection in it come by then, or not for now.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// A connection that was used so shortly ago is taken to stand.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// One that does not answer a ping by then is dead, though no reset told so (a firewall forgot it, a host vanished).
/// Without a limit such a connection would keep its place in the pool until the kernel gives it up, after a quarter
/// of an hour.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// The same seen from the server: what a vanished client has locked is freed before long. No transaction of ours
/// idles, as none is open during an outside call.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '10s';
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// A statement of a migration that waits for a lock makes all others wait behind it: for so long, and then again later.
const SHORT_LOCKS: &str = "SET lock_timeout = '500ms'";
const LOCK_PAUSE: Duration = Duration::from_secs(2);
const LOCKS_WITHIN: Duration = Duration::from_secs(30 * 60);
/// A migration lets go of nothing.
const KEEP_ALL_MONTHS: u16 = 1_200;

/// How we reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
}

/// Who chooses how a statement finds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plans {
    /// PostgreSQL, by what it knows of the tables: for lists and for looking at everything.
    Chosen,
    /// Always by index, planned once per connection: for the workers, all of whose statements look rows up by key.
    /// Left to itself PostgreSQL plans for the table as it is when the connection is young, and reads a whole one
    /// that was empty then for every seat, until its statistics are refreshed.
    ByKey,
}

impl Plans {
    /// What a connection is told when it is made.
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Chosen => &[],
            Self::ByKey => &[
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                // What is switched off counts as dear, and compiling what is dear takes longer than running it.
                ("jit", "off"),
            ],
        }
    }
}

/// A database error with the distinctions that callers act on. Which error is which: [`failure::meaning`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Every statement fails now: the server is unreachable or refuses the account, or the schema is not this release's.
    #[error("PostgreSQL is away: {}", away_in_words(.0))]
    Away(#[source] sqlx::Error),
    /// Another transaction was in the way (deadlock, serialization, a lock), or the connection is older than the
    /// schema; the same step will pass next time.
    #[error("PostgreSQL asks to try again: {0}")]
    Conflict(#[source] sqlx::Error),
    /// The row was written by a newer release.
    #[error("a newer release wrote it: {0}")]
    Newer(#[source] sqlx::Error),
    /// A value or a row is not what this release expects: ours to mend.
    #[error("PostgreSQL refused a statement: {0}")]
    Bug(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether a conflict that does not end blames the step itself and not another transaction.
    pub fn is_own_when_lasting(&self) -> bool {
        match self {
            Self::Conflict(sqlx::Error::RowNotFound) => true,
            Self::Conflict(error) => failure::meaning(error) == Meaning::Clash,
            Self::Away(_) | Self::Newer(_) | Self::Bug(_) => false,
        }
    }

    /// Whether the database account lacks a right: what fails so fails for everybody until its owner gives it.
    pub fn lacks_right(&self) -> bool {
        let (Self::Away(error) | Self::Conflict(error) | Self::Newer(error) | Self::Bug(error)) = self;
        error.as_database_error().is_some_and(|refusal| refusal.code().as_deref() == Some("42501"))
    }
}

/// The pool tries again and again, and in the end knows only that it did.
fn away_in_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => format!("no connection within {} seconds", CONNECTED_WITHIN.as_secs()),
        error => error.to_string(),
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if failure::is_of_connection(&error) {
            Outdated::note();
        }
        match failure::meaning(&error) {
            Meaning::Outage => Self::Away(error),
            Meaning::Contention | Meaning::Clash | Meaning::Stale => Self::Conflict(error),
            Meaning::Newer => Self::Newer(error),
            Meaning::Data => Self::Bug(error),
        }
    }
}

/// When a connection last failed for what may be its own reason. sqlx keeps what it prepared for as long as a connection
/// lives, so every connection that was made before is closed instead of being used again.
struct Outdated;

static OUTDATED: Mutex<Option<Instant>> = Mutex::new(None);

impl Outdated {
    /// At most once a second: where every statement fails, not every statement may cost all connections.
    fn note() {
        let mut noted = OUTDATED.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none_or(|noted| noted.elapsed() > Duration::from_secs(1)) {
            *noted = Some(Instant::now());
        }
    }

    /// Whether a connection of this age is older than that.
    fn holds_for(age: Duration) -> bool {
        let noted = *OUTDATED.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|noted| noted.elapsed() <= age)
    }
}

impl Database {
    /// Opens the pool without connecting: a process starts and tells by its readiness that PostgreSQL is away.
    pub fn open(url: &SecretString, max_connections: u32, plans: Plans) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.expose_secret().parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(CONNECTED_WITHIN)
            .after_connect(|connection, _| {
                Box::pin(async { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
            })
            // A round trip before each use is only worth it for a connection that may have died unnoticed.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if Outdated::holds_for(meta.age) {
                        return Ok(false);
                    }
                    if meta.idle_for > TRUSTED_IDLE {
                        ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            // The pool asks again after that, and would wait for ever.
            .after_release(|connection, _| Box::pin(async { ping(connection).await.map(|()| true) }))
            .connect_lazy_with(options.application_name("holdfast").options(plans.settings().iter().copied()));
        Ok(Self { pool })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a transaction. `name` says in metrics which step it carries.
    pub async fn begin(&self, name: &'static str) -> Result<Step<'static>, StoreError> {
        let started = Instant::now();
        let mut transaction = self.opened("BEGIN").await?;
        let now = sqlx::query_scalar("SELECT now()").fetch_one(&mut *transaction).await?;
        Ok(Step { name, started, now, transaction })
    }

    /// Opens a transaction that only reads, and reads all from one snapshot.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.opened("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await
    }

    /// In a task of its own, which goes on when the caller has gone. A `BEGIN` that is given up on its way would
    /// leave the pool a connection with a transaction open that sqlx does not know of: whatever is written there
    /// next is told to be done, and is not.
    async fn opened(&self, begin: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool.clone();
        let opened = tokio::spawn(async move { pool.begin_with(begin).await });
        Ok(opened.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
    }

    /// One round trip, for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Brings the schema to head, gives each role its rights and makes the next partitions. As the schema's owner.
    ///
    /// A lock that a long reader holds is waited for in short pieces, so that those who write do not wait behind a migration.
    ///
    /// # Errors
    /// A migration fails, or a lock was not to be had for [`LOCKS_WITHIN`].
    pub async fn migrate(&self) -> Result<(), anyhow::Error> {
        let began = Instant::now();
        while let Err(error) = self.migrate_without_waiting().await {
            if !waits_for_lock(&error) || began.elapsed() > LOCKS_WITHIN {
                return Err(error);
            }
            tracing::warn!(error = format!("{error:#}"), "a reader holds a table that a migration needs; trying again");
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        match self.make_partitions(KEEP_ALL_MONTHS).await {
            // Months are made far ahead: the worker `reconcile` tries again.
            Err(error @ StoreError::Conflict(_)) => tracing::warn!(%error, "left the next months to be made later"),
            made => made?,
        }
        Ok(())
    }

    async fn migrate_without_waiting(&self) -> Result<(), anyhow::Error> {
        // Not the pool's any more: what was set, and a lock that sqlx holds meanwhile, end with it.
        let mut connection = self.pool.acquire().await?.detach();
        sqlx::query(SHORT_LOCKS).execute(&mut connection).await?;
        sqlx::migrate!("./migrations").run(&mut connection).await?;
        sqlx::raw_sql(RIGHTS).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

/// Rows that one page reads beyond its limit, so that rows that cannot be read shorten it only when they are many.
const SPARE_ROWS: i64 = 100;

/// Reads rows one by one: one that this release cannot read is left out, logged and counted, and stops no page. `limit`:
/// most rows of the answer; the query asks for [`SPARE_ROWS`] more.
fn readable<T>(table: &'static str, rows: &[PgRow], limit: i64) -> Vec<T>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let read = rows.iter().filter_map(|row| {
        T::from_row(row)
            .inspect_err(|error| {
                metrics::counter!("unreadable_rows_total", "table" => table).increment(1);
                tracing::error!(table, %error, "skipped a row that cannot be read");
            })
            .ok()
    });
    read.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

/// Whether a lock was not to be had in time.
fn waits_for_lock(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
    causes.filter_map(sqlx::Error::as_database_error).any(|refusal| refusal.code().is_some_and(|code| code == "55P03"))
}

async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let answered = timeout(PING_WITHIN, connection.ping()).await;
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// A named transaction. Dropped without [`Step::commit`] it changes nothing.
pub struct Step<'a> {
    name: &'static str,
    started: Instant,
    /// The database's clock, the only one that deadlines are compared with: when the transaction began, or had its
    /// sessions locked.
    pub now: OffsetDateTime,
    pub(crate) transaction: Transaction<'a, Postgres>,
}

impl Step<'_> {
    pub async fn commit(self) -> Result<(), StoreError> {
        crash::around("commit", self.name, self.transaction.commit()).await?;
        tracing::trace!(name = self.name, "committed");
        metrics::histogram!("store_transaction_seconds", "name" => self.name)
            .record(self.started.elapsed().as_secs_f64());
        Ok(())
    }
}
