//! What `verify` tells of one promise of the books.

use serde::Serialize;
use serde_json::Value;

/// Offending rows shown per promise; all are counted.
pub(super) const ROWS_SHOWN: usize = 20;

/// One promise and whether it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    pub name: &'static str,
    pub promise: &'static str,
    /// How many things were looked at.
    pub checked: i64,
    /// How many of them break the promise.
    pub broken: i64,
    /// The first of those, as they are stored. For `open_cases` and
    /// `open_cancellations`, which break nothing: the oldest of them.
    pub rows: Vec<Value>,
}

impl Item {
    pub(super) fn new(name: &'static str, promise: &'static str) -> Self {
        Self { name, promise, checked: 0, broken: 0, rows: Vec::new() }
    }

    pub(super) fn offend(&mut self, row: Value) {
        self.broken += 1;
        if self.rows.len() < ROWS_SHOWN {
            self.rows.push(row);
        }
    }
}
