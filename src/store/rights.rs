//! What the account of each kind of process may do in the database: given by the owner after a migration, and compared
//! at the start of a process with what its account has. `rights.sql` is the only source of both.

use std::{collections::BTreeSet, fmt};

use sqlx::FromRow;

use super::{Database, StoreError};

pub(super) const RIGHTS: &str = include_str!("rights.sql");

/// A right that an account lacks.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct MissingRight {
    /// The account, as PostgreSQL knows it.
    pub account: String,
    /// `INSERT`, `UPDATE (swept_at)`, `EXECUTE`, …
    pub privilege: String,
    /// The table, function or database.
    pub object: String,
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, privilege, object } = self;
        write!(f, "the account {account} lacks the right {privilege} on {object} at PostgreSQL")
    }
}

/// One right on one table, function or database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    class: Class,
    privilege: String,
    /// Empty for the whole table.
    column: String,
    object: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Table,
    Function,
    Database,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Function => "function",
            Self::Database => "database",
        }
    }
}

/// The rights of this kind of process that the database's account lacks. What a release of another age does not have is
/// left out: that is the schema's age, not the account's rights.
///
/// # Errors
/// PostgreSQL is away.
pub async fn missing(db: &Database, kind: &str) -> Result<Vec<MissingRight>, StoreError> {
    let rights: Vec<Right> = needed(kind).into_iter().collect();
    let column = |of: fn(&Right) -> &str| rights.iter().map(|right| of(right).to_owned()).collect::<Vec<String>>();
    Ok(sqlx::query_as(
        "SELECT current_user::text AS account, privilege || CASE col WHEN '' THEN '' ELSE ' (' || col || ')' END AS privilege,
                object
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
             AS needed(class, privilege, col, object, place)
          WHERE CASE class
                WHEN 'table' THEN CASE col
                     WHEN '' THEN NOT has_table_privilege(to_regclass(object), privilege)
                     ELSE NOT has_column_privilege(to_regclass(object),
                          (SELECT attnum FROM pg_attribute WHERE attrelid = to_regclass(object) AND attname = col), privilege) END
                WHEN 'function' THEN NOT has_function_privilege(to_regprocedure(object), privilege)
                ELSE NOT has_database_privilege(current_database(), privilege) END
          ORDER BY place",
    )
    .bind(column(|right| right.class.as_str()))
    .bind(column(|right| &right.privilege))
    .bind(column(|right| &right.column))
    .bind(column(|right| &right.object))
    .fetch_all(db.pool())
    .await?)
}

/// The privileges of a row of `rights.sql`. A comma in parentheses divides the columns of one privilege.
fn one_by_one(privileges: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let divides = move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    privileges.split(divides).map(str::trim)
}

/// What `rights.sql` gives this kind of process.
fn needed(kind: &str) -> BTreeSet<Right> {
    let sql = uncommented();
    let mut needed = BTreeSet::new();
    let mut tables = BTreeSet::new();
    for (privileges, table, kinds) in rows(&sql) {
        let is_mine = kinds.split(' ').any(|one| one == kind);
        for privilege in one_by_one(privileges).filter(|_| is_mine) {
            let (privilege, columns) = privilege.split_once(" (").unwrap_or((privilege, ""));
            for column in columns.trim_end_matches(')').split(", ") {
                let (privilege, column) = (privilege.to_owned(), column.to_owned());
                needed.insert(Right { class: Class::Table, privilege, column, object: table.to_owned() });
            }
        }
        tables.insert(table);
    }
    for (table, readers) in kept_from_most(&sql) {
        if !readers.contains(&kind) {
            tables.remove(table);
        }
    }
    needed.extend(tables.into_iter().map(|table| Right {
        class: Class::Table,
        privilege: "SELECT".into(),
        column: String::new(),
        object: table.to_owned(),
    }));
    needed.extend(functions(&sql, kind).into_iter().map(|function| Right {
        class: Class::Function,
        privilege: "EXECUTE".into(),
        column: String::new(),
        object: function,
    }));
    if sql.contains(&format!("GRANT TEMPORARY ON DATABASE %I TO holdfast_{kind}'")) {
        needed.insert(Right {
            class: Class::Database,
            privilege: "TEMPORARY".into(),
            column: String::new(),
            object: "the database".into(),
        });
    }
    needed
}

/// `rights.sql` without its comments.
fn uncommented() -> String {
    RIGHTS.lines().filter(|line| !line.trim_start().starts_with("--")).map(|line| format!("{line}\n")).collect()
}

/// The texts in single quotes of a piece of SQL. None of ours holds a quote.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('\'').skip(1).step_by(2)
}

/// Privileges, table and kinds of process, of each row of the table in `rights.sql`.
fn rows(sql: &str) -> Vec<(&str, &str, &str)> {
    let table =
        sql.split_once("(VALUES").and_then(|(_, rest)| rest.split_once(") AS given")).map_or("", |(rows, _)| rows);
    let texts: Vec<&str> = quoted(table).collect();
    texts.chunks_exact(3).map(|row| (row[0], row[1], row[2])).collect()
}

/// Tables that not every kind may read, with those that may.
fn kept_from_most(sql: &str) -> Vec<(&str, Vec<&str>)> {
    let conditions = sql.split("act.kind NOT IN (").skip(1);
    conditions
        .filter_map(|rest| {
            let (readers, rest) = rest.split_once(')')?;
            let (_, rest) = rest.split_once("REVOKE SELECT ON ")?;
            Some((rest.split(' ').next()?, quoted(readers).collect()))
        })
        .collect()
}

/// Functions that run with their owner's rights and that this kind may call.
fn functions(sql: &str, kind: &str) -> Vec<String> {
    let grants = sql.split("ON FUNCTION ").skip(1).filter_map(|rest| rest.split(';').next()?.split_once(" TO "));
    grants
        .filter(|(_, grantee)| grantee.trim() == format!("holdfast_{kind}"))
        .flat_map(|(functions, _)| functions.split_inclusive(')'))
        .map(|function| function.trim_start_matches(',').split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|function| !function.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(kind: &str, privilege: &str, column: &str, object: &str) -> bool {
        needed(kind).iter().any(|right| {
            (right.privilege.as_str(), right.column.as_str(), right.object.as_str()) == (privilege, column, object)
        })
    }

    #[test]
    fn the_rights_that_are_compared_are_those_that_are_given() {
        assert!(rows(&uncommented()).len() > 30);
        assert!(has("desk", "INSERT", "", "course_schedules") && !has("ingress", "INSERT", "", "course_schedules"));
        assert!(has("desk", "UPDATE", "status", "course_schedules") && !has("desk", "UPDATE", "", "course_schedules"));
        assert!(has("desk", "UPDATE", "rate", "schedule_cancellations"));
        assert!(has("desk", "UPDATE", "asked_through", "schedule_cancellations"));
        assert!(has("seats", "INSERT", "", "users") && has("seats", "UPDATE", "", "users"));
        assert!(has("ingress", "SELECT", "", "payment_orders"));
        assert!(has("seats", "SELECT", "", "users") && !has("ingress", "SELECT", "", "users"));
        assert!(has("desk", "SELECT", "", "dead_letters") && !has("seats", "SELECT", "", "dead_letters"));
        assert!(has("reconcile", "EXECUTE", "", "order_trace_keep(integer, integer)"));
        assert!(has("reconcile", "EXECUTE", "", "audit_log_make_partitions(integer)"));
        assert!(!needed("seats").iter().any(|right| right.class != Class::Table));
        assert!(needed("reconcile").iter().any(|right| right.class == Class::Database));
    }
}
