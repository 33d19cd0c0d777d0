//! `holdfast verify`: every promise, counted; exit 1 when one is broken, with the rows that break it.

use serde::Serialize;

use crate::{
    config::Settings,
    exit::Failure,
    store::{self, promise::Item},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// How late something may be before it counts as overdue.
    #[arg(long, default_value_t = 120)]
    grace_seconds: u32,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    items: Vec<Item>,
    next: Option<String>,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let database = super::database(settings)?;
    let grace = time::Duration::seconds(arguments.grace_seconds.into());
    let mut items = store::verify::run(&database, grace).await?;
    // The books can be judged without the keys; where they are at hand, so is this.
    if let Ok(keys) = settings.personal.load() {
        items.push(store::reseal::promise(&database, &keys).await?);
    }
    let broken: Vec<&str> = items.iter().filter(|item| item.broken > 0).map(|item| item.name).collect();
    let failure = (!broken.is_empty()).then(|| Failure::No(format!("broken: {}", broken.join(", "))));
    let report = Report { ok: failure.is_none(), items, next: None };
    super::print(json, &report, || told(&report.items));
    failure.map_or(Ok(()), Err)
}

fn told(items: &[Item]) -> String {
    let rows = items.iter().map(|item| {
        vec![item.name.to_owned(), item.checked.to_string(), item.broken.to_string(), item.promise.to_owned()]
    });
    let mut words = super::table(&["invariant", "checked", "broken", "promise"], rows);
    for item in items.iter().filter(|item| !item.rows.is_empty()) {
        words.push_str(&format!("\n\n{}", item.name));
        for row in &item.rows {
            words.push_str(&format!("\n  {row}"));
        }
        let shown = i64::try_from(item.rows.len()).unwrap_or(i64::MAX);
        if item.broken > shown {
            words.push_str(&format!("\n  … and {} more", item.broken - shown));
        }
    }
    words
}
