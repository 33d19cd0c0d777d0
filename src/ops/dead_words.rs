//! `holdfast dead …`, as a person reads it.

use time::OffsetDateTime;

use super::Page;
use crate::dead_letters::document::{ActDocument, GroupDocument, LetterDetail, LetterDocument};

pub(super) fn of_letter(detail: &LetterDetail, wechat: &serde_json::Value) -> String {
    let letter = &detail.letter;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "—".into());
    let mut rows = vec![
        ("letter", letter.letter_id.clone()),
        ("state", letter.state.as_str().into()),
        ("queue", format!("{}, from {}", letter.queue, or_none(&letter.work_queue))),
        ("message", format!("{} {}", letter.kind, or_none(&letter.message_id))),
        (
            "failed",
            format!("{}, attempt {}, worker {}", moment(letter.failed_at), letter.attempt, or_none(&letter.worker)),
        ),
        ("error", format!("{}: {}", letter.error_class, letter.error)),
        ("cause", letter.cause.clone()),
        ("effect now", letter.effect.as_str().into()),
        ("money", format!("{}, of it open {}", letter.money_fen, letter.open_fen)),
    ];
    rows.extend(letter.next_deadline.map(|at| ("next deadline", moment(at))));
    rows.extend(
        detail.order.as_ref().map(|order| ("order", format!("{} is {}", order.order_id, order.status.as_str()))),
    );
    rows.extend((!wechat.is_null()).then(|| ("WeChat says", wechat.to_string())));
    rows.extend(detail.unreadable.as_ref().map(|why| ("unreadable", why.clone())));
    rows.push(("body", detail.body.clone()));
    rows.extend(detail.headers.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
    for replay in &detail.replays {
        let result = format!("{} {}: {}", replay.replay_id, replay.result.as_str(), or_none(&replay.detail));
        rows.push(("replay", result));
    }
    rows.extend(
        detail.acts.iter().map(|act| ("act", format!("{} {} {}: {}", moment(act.at), act.actor, act.act, act.reason))),
    );
    rows.extend(detail.notes.iter().map(|note| ("note", format!("{}: {}", note.author, note.note))));
    super::table(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

pub(super) fn of_letters(page: &Page<LetterDocument>) -> String {
    let rows = page.items.iter().map(|letter| {
        let error: String = letter.error.chars().take(60).collect();
        let columns = [
            letter.letter_id.clone(),
            moment(letter.failed_at),
            letter.queue.clone(),
            letter.kind.clone(),
            letter.error_class.clone(),
            letter.order_id.clone().unwrap_or_default(),
            letter.effect.as_str().to_owned(),
            letter.open_fen.to_string(),
            error,
        ];
        columns.into()
    });
    let mut words =
        super::table(&["letter", "failed", "queue", "kind", "class", "order", "effect now", "open", "error"], rows);
    if let Some(next) = &page.next {
        words.push_str(&format!("\nmore: --cursor {next}"));
    }
    words
}

pub(super) fn of_groups(groups: &[GroupDocument]) -> String {
    let rows = groups.iter().map(|group| {
        let effects = group.effects.iter().map(|(effect, count)| format!("{count} {effect}"));
        vec![
            group.group.clone(),
            group.letters.to_string(),
            group.orders.to_string(),
            group.money_fen.to_string(),
            group.open_fen.to_string(),
            group.next_deadline.map(moment).unwrap_or_default(),
            format!("{} {} {}: {}", group.queue, group.kind, group.error_class, group.pattern),
            effects.collect::<Vec<_>>().join(", "),
            group.notes.last().map(|note| note.note.clone()).unwrap_or_default(),
        ]
    });
    super::table(
        &["group", "letters", "orders", "money", "open", "next deadline", "cause", "effects now", "note"],
        rows,
    )
}

pub(super) fn of_acts(acts: &[ActDocument]) -> String {
    let rows = acts.iter().map(|act| {
        vec![moment(act.at), act.actor.clone(), act.act.clone(), act.letters.len().to_string(), act.reason.clone()]
    });
    super::table(&["at", "who", "what", "letters", "why"], rows)
}

fn moment(at: OffsetDateTime) -> String {
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}
