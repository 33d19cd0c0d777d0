//! The operator's commands, one file each. Results go to standard output, everything else to standard error.

pub mod config;
pub mod migrate;
pub mod order;
pub mod sample;
pub mod schedule;
pub mod schedule_cancel;
pub mod token;
pub mod topology;
pub mod verify;

use std::io::Write;

use serde::Serialize;

use crate::{
    cache::{Cache, CacheSettings},
    config::{Settings, needed},
    exit::Failure,
    store::{Database, Plans},
};

/// A list, as the API answers it too.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Prints the result as one JSON document, or in words.
fn print<T: Serialize>(json: bool, result: &T, words: impl FnOnce() -> String) {
    let text = if json { serde_json::to_string(result).expect("results are plain data") } else { words() };
    if !text.is_empty() {
        // Who stops reading (`| head`) has what they wanted.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

fn database(settings: &Settings) -> Result<Database, Failure> {
    let url = needed("database.url", &settings.database.url)?;
    Database::open(&url, 2, Plans::Chosen)
        .map_err(|error| Failure::wrong(format!("database.url cannot be read: {error}")))
}

/// The cache, when it is configured: commands go on without it.
fn cache(settings: &Settings) -> Option<Cache> {
    needed("cache.url", &settings.cache.url).ok()?;
    // A request gives up early; a command that a person waits for need not. The ingress refuses for half a minute a
    // session that it was not told of.
    let patient = CacheSettings { call_limit_ms: settings.cache.call_limit_ms.max(3_000), ..settings.cache.clone() };
    Cache::open(&patient).ok()
}
