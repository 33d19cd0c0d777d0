//! What a failure of PostgreSQL says about the statement that met it: one table of SQLSTATEs and of sqlx's own errors.
//!
//! | meaning | fails again | what helps |
//! |---|---|---|
//! | `Outage` | for every statement | wait and probe: server, network, account, rights or schema |
//! | `Contention` | until another transaction ends | the same step again |
//! | `Clash` | only when no concurrent step is the reason | the same step again, a few times; then a person |
//! | `Stale` | on every connection that is as old | the same statement on a new connection |
//! | `Newer` | in this release | a release that knows the value |
//! | `Data` | always, alone | a person: the values or the row are wrong |

use sqlx::{Error, error::DatabaseError};

/// See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Outage,
    Contention,
    Clash,
    Stale,
    Newer,
    Data,
}

/// A label of a PostgreSQL enum that this release does not know: a newer release wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{label:?} is no {of} that this release knows")]
pub struct NewerLabel {
    pub label: String,
    /// The enum's name in PostgreSQL.
    pub of: &'static str,
}

/// The meaning of an error, whatever it is: total over sqlx's errors and over all SQLSTATEs.
pub fn meaning(error: &Error) -> Meaning {
    match error {
        Error::Database(refusal) => of_refusal(refusal.as_ref()),
        Error::ColumnDecode { source, .. } | Error::Decode(source) if source.is::<NewerLabel>() => Meaning::Newer,
        // One row or one value is missing, or cannot be read or written.
        Error::RowNotFound
        | Error::ColumnDecode { .. }
        | Error::Decode(_)
        | Error::Encode(_)
        | Error::InvalidArgument(_) => Meaning::Data,
        // The connection, the pool, the settings, or a table or type that is not what this release expects.
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed
        | Error::InvalidSavePointStatement
        | Error::Configuration(_)
        | Error::ConfigFile(_)
        | Error::Migrate(_)
        | Error::AnyDriverError(_)
        | Error::TypeNotFound { .. }
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::ColumnNotFound(_) => Meaning::Outage,
        // sqlx may add errors. One that is not known here blames no message.
        _ => Meaning::Outage,
    }
}

fn of_refusal(refusal: &dyn DatabaseError) -> Meaning {
    refusal.code().map_or(Meaning::Outage, |code| of_sqlstate(&code))
}

/// Whether another connection may fare better: this one keeps statements that were prepared before a migration, numbers of
/// types that were made anew, settings that were changed since, or leads to a server that is the first no more.
pub fn is_of_connection(error: &Error) -> bool {
    let is_refusal = error.as_database_error().is_some_and(|refusal| refusal.code().is_some());
    let internal = error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "XX000");
    is_refusal && (internal || matches!(meaning(error), Meaning::Outage | Meaning::Stale))
}

/// The meaning of a SQLSTATE. Single codes come before their class; a class that is not listed blames no message,
/// since every statement of ours is a constant: only its values differ from message to message.
pub fn of_sqlstate(code: &str) -> Meaning {
    match code {
        // A result or a kept statement is not what the connection prepared: a migration ran, or a pooler is between.
        "0A000" | "26000" => return Meaning::Stale,
        // unique_violation, exclusion_violation: mostly a concurrent step that wrote the same row first.
        "23505" | "23P01" => return Meaning::Clash,
        // lock_not_available; in_failed_sql_transaction follows another failure of the same step.
        "55P03" | "25P02" => return Meaning::Contention,
        // transaction_integrity_constraint_violation is about rows, statement_completion_unknown about the server.
        "40002" => return Meaning::Data,
        "40003" => return Meaning::Outage,
        // statement_too_complex comes from too little stack, whatever the values.
        "54001" => return Meaning::Outage,
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        // cardinality_violation, data exceptions, integrity constraints, WITH CHECK OPTION, raise_exception, and the
        // limits of one value (an index row, the number of arguments).
        "21" | "22" | "23" | "44" | "54" | "P0" => Meaning::Data,
        // serialization_failure, deadlock_detected, snapshot_too_old.
        "40" | "72" => Meaning::Contention,
        // internal_error, data_corrupted, index_corrupted: a stale catalogue cache heals, a damaged page is one row's.
        "XX" => Meaning::Clash,
        // 08 connection, 25 read only or ended by a time limit, 28 refused login, 3D and 3F missing database or schema,
        // 42 missing right, table, column, function or type, 53 out of connections, disk or memory, 55 object state,
        // 57 shutdown or statement time limit, 58 disk, F0 server settings; and every other class.
        _ => Meaning::Outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_a_failure_that_every_message_would_meet_blames_no_message() {
        use Meaning::{Clash, Contention, Data, Outage, Stale};
        #[rustfmt::skip]
        let rows = [
            // Login, database, rights, schema.
            ("28000", Outage), ("28P01", Outage), ("3D000", Outage), ("3F000", Outage), ("42501", Outage),
            ("42P01", Outage), ("42703", Outage), ("42883", Outage), ("42704", Outage), ("42702", Outage), ("42601", Outage),
            ("42804", Outage), ("42P18", Outage),
            // Plans.
            ("0A000", Stale), ("26000", Stale),
            // The server's state and resources.
            ("08006", Outage), ("08P01", Outage), ("25006", Outage), ("25P03", Outage), ("25P04", Outage), ("53000", Outage),
            ("53100", Outage), ("53200", Outage), ("53300", Outage), ("53400", Outage), ("55000", Outage), ("55006", Outage),
            ("57014", Outage), ("57P01", Outage), ("57P02", Outage), ("57P03", Outage), ("57P04", Outage), ("57P05", Outage),
            ("58000", Outage), ("58030", Outage), ("58P01", Outage), ("F0000", Outage), ("XX000", Clash), ("XX001", Clash),
            ("40003", Outage), ("54001", Outage),
            // Other transactions.
            ("40001", Contention), ("40P01", Contention), ("55P03", Contention), ("25P02", Contention), ("72000", Contention),
            ("23505", Clash), ("23P01", Clash),
            // This message.
            ("22P02", Data), ("22021", Data), ("22003", Data), ("22001", Data), ("22008", Data), ("22P05", Data),
            ("23502", Data), ("23503", Data), ("23514", Data), ("21000", Data), ("44000", Data), ("54000", Data), ("P0001", Data),
            // What PostgreSQL does not know yet.
            ("ZZ999", Outage), ("", Outage), ("é", Outage),
        ];
        for (code, expected) in rows {
            assert_eq!(of_sqlstate(code), expected, "{code}");
        }
    }

    #[test]
    fn d1_the_clients_own_errors_blame_a_message_only_for_a_value() {
        let newer = || Box::new(NewerLabel { label: "tomorrow".into(), of: "order_status" });
        for (error, expected) in [
            (Error::PoolTimedOut, Meaning::Outage),
            (Error::WorkerCrashed, Meaning::Outage),
            (Error::TypeNotFound { type_name: "order_status".into() }, Meaning::Outage),
            (Error::ColumnNotFound("status".into()), Meaning::Outage),
            (Error::Protocol("half an answer".into()), Meaning::Outage),
            (Error::RowNotFound, Meaning::Data),
            (Error::Decode("no text".into()), Meaning::Data),
            (Error::ColumnDecode { index: "status".into(), source: newer() }, Meaning::Newer),
            (Error::Decode(newer()), Meaning::Newer),
        ] {
            assert_eq!(meaning(&error), expected, "{error}");
        }
    }
}
