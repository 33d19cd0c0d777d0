//! `holdfast order explain`: the whole story of one order on one page.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    config::Settings,
    domain::{
        calendar::show,
        ids::OrderId,
        timeline::{Entry, Timeline},
    },
    exit::Failure,
    store,
};

pub async fn run(id: &OrderId, settings: &Settings, json: bool) -> Result<(), Failure> {
    let database = super::database(settings)?;
    let story = store::timeline::read(&database, id).await?;
    let story = story.ok_or_else(|| super::no_order(id))?;
    super::print(json, &story, || told(&story));
    Ok(())
}

/// The story as a page of text: the answer first, then what happened, then what can happen.
pub fn told(story: &Timeline) -> String {
    let order = &story.order;
    let mut page =
        format!("order {} of {}: {}\n{}\n", order.order_id, story.user_id, order.status.as_str(), story.answer);
    let rows = story.entries.iter().map(|entry| {
        vec![
            show(entry.at),
            entry.kind.as_str().to_owned(),
            entry.what.clone(),
            change(entry),
            entry.who.clone().unwrap_or_default(),
            entry.took_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            more(entry),
        ]
    });
    section(&mut page, "what happened", &super::table(&[], rows));
    let waiting = story.waits_for.iter().map(|waiting| vec![waiting.whom.clone(), waiting.what.clone()]);
    section(&mut page, "waits for", &super::table(&[], waiting));
    let next = story.next.iter().map(|next| {
        let to = next.to.map(|to| format!("→ {}", to.as_str())).unwrap_or_default();
        vec![show(next.at), next.what.clone(), to]
    });
    section(&mut page, "happens by itself", &super::table(&[], next));
    let endings = story.endings.iter().map(|ending| {
        let through = ending.through.as_ref().map_or_else(|| "not any more".to_owned(), |steps| steps.join(" → "));
        vec![ending.status.as_str().to_owned(), through]
    });
    section(&mut page, "could still end", &super::table(&[], endings));
    page.truncate(page.trim_end().len());
    page
}

fn section(page: &mut String, title: &str, table: &str) {
    let table = if table.is_empty() { " nothing" } else { table };
    // Writing to a String cannot fail.
    let _ = write!(page, "\n{title}\n{table}\n");
}

fn change(entry: &Entry) -> String {
    match (entry.from, entry.to) {
        (Some(from), Some(to)) if from != to => format!("{} → {}", from.as_str(), to.as_str()),
        _ => entry.outcome.clone(),
    }
}

/// The rest of an entry on one line, what a reader needs least last.
fn more(entry: &Entry) -> String {
    let mut words: Vec<String> = entry.reason.iter().cloned().collect();
    if let Some(Value::Object(details)) = &entry.details {
        words.extend(details.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        }));
    }
    words.extend(entry.request_id.iter().map(|id| format!("request_id={id}")));
    words.join(" ")
}
