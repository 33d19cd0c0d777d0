//! The operator's commands, one file each. Results go to standard output, everything else to standard error.

pub mod accounts;
pub mod audit;
pub mod case;
pub mod config;
pub mod dead;
mod dead_arguments;
pub mod dead_replay;
mod dead_words;
pub mod keys;
pub mod migrate;
pub mod order;
pub mod order_explain;
pub mod order_override;
pub mod order_take_refund;
pub mod reconcile;
pub mod sample;
pub mod schedule;
pub mod schedule_cancel;
pub mod token;
pub mod topology;
pub mod verify;

use std::{fmt::Display, io::Write};

use secrecy::SecretString;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    api::paging::Place,
    cache::{Cache, CacheSettings},
    config::{Settings, needed},
    domain::{
        ids::{OrderId, ScheduleId, UserId},
        text::{Line, Note, Sentence, Unfit, escaped, escaped_json, escaped_page},
    },
    exit::Failure,
    store::{Database, Plans},
};

/// A list, as the API answers it too.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// From one item more than `limit`, if there is one, with the API's own cursor.
    fn cut(mut items: Vec<T>, limit: i64, place: impl Fn(&T) -> (OffsetDateTime, Uuid)) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let cursor = |last: &T| {
            let (at, id) = place(last);
            Place { at, id: id.to_string() }.cursor()
        };
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }

    /// A table of the items, and how to see more.
    fn table(&self, header: &[&str], row: impl Fn(&T) -> Vec<String>) -> String {
        let more = self.next.iter().map(|next| format!("\nmore: --cursor {next}"));
        std::iter::once(table(header, self.items.iter().map(row))).chain(more).collect()
    }
}

/// `next` of the page before.
fn cursor(text: &str) -> Result<(OffsetDateTime, Uuid), String> {
    let place = Place::parse(text)?;
    let id = Uuid::parse_str(&place.id).map_err(|_| "is not a cursor of this list")?;
    Ok((place.at, id))
}

/// Prints the result as one JSON document, or in words. Strangers' texts in it cannot steer the terminal: what would is
/// escaped, here for every command, and line feeds within a cell by [`table`].
fn print<T: Serialize>(json: bool, result: &T, words: impl FnOnce() -> String) {
    let text = if json {
        escaped_json(&serde_json::to_string(result).expect("results are plain data"))
    } else {
        escaped_page(&words())
    };
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
        table.add_row(row.iter().map(|cell| escaped(cell)));
    }
    table.trim_fmt()
}

/// A document's members, one to a line; what is null is left out.
fn members<T: Serialize>(document: &T) -> String {
    let document = serde_json::to_value(document).expect("results are plain data");
    let rows = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    table(&[], rows.map(|(name, value)| vec![name.clone(), value.to_string().trim_matches('"').to_owned()]))
}

/// How long ago, in the largest unit that says something.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A sentence that a person wrote for others.
fn sentence(text: &str) -> Result<String, Unfit> {
    Sentence::try_from(text).map(String::from)
}

/// Lines that a person wrote about dead letters.
fn note(text: &str) -> Result<String, Unfit> {
    Note::try_from(text).map(String::from)
}

/// A text to look for, as the API takes it too.
fn line(text: &str) -> Result<String, Unfit> {
    Line::<256>::try_from(text).map(String::from)
}

/// A letter's name.
fn letter(text: &str) -> Result<String, Unfit> {
    Line::<64>::try_from(text).map(String::from)
}

/// An operator's name: a token's `sub`, so that the same person has one name everywhere.
fn operator(text: &str) -> Result<String, String> {
    let name = UserId::try_from(text.to_owned()).map_err(|malformed| malformed.to_string())?;
    Ok(name.as_str().to_owned())
}

/// Ids mean nothing to those who use them: what cannot be an order's is not found.
fn order_id(text: &str) -> Result<OrderId, Failure> {
    OrderId::try_from(text.to_owned()).map_err(|_| no_order(text))
}

fn no_order(id: impl Display) -> Failure {
    Failure::No(format!("there is no order {id} in the books"))
}

/// What cannot be a session's is not found either.
fn schedule_id(text: &str) -> Result<ScheduleId, Failure> {
    ScheduleId::parse(text).map_err(|_| no_schedule(text))
}

fn no_schedule(id: impl Display) -> Failure {
    Failure::No(format!("there is no session {id}"))
}

/// For what operators look at and decide.
fn database(settings: &Settings) -> Result<Database, Failure> {
    let (setting, url) = settings.database.for_operators()?;
    open(setting, &url)
}

/// For what only the schema's owner can do: `database.url`, whoever else acts for operators.
fn owners_database(settings: &Settings) -> Result<Database, Failure> {
    open("database.url", &needed("database.url", &settings.database.url)?)
}

fn open(setting: &str, url: &SecretString) -> Result<Database, Failure> {
    Database::open(url, 2, Plans::Chosen).map_err(|error| Failure::wrong(format!("{setting} cannot be read: {error}")))
}

/// The cache, when it is configured: commands go on without it.
fn cache(settings: &Settings) -> Option<Cache> {
    needed("cache.url", &settings.cache.url).ok()?;
    // A request gives up early; a command that a person waits for need not. The ingress refuses for half a minute a
    // session that it was not told of.
    let patient = CacheSettings { call_limit_ms: settings.cache.call_limit_ms.max(3_000), ..settings.cache.clone() };
    Cache::open(&patient).ok()
}
