//! `holdfast dead`: messages that nobody could handle. Looking takes nothing out of a queue.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Page, dead_replay};
use crate::{
    broker::Broker,
    config::{Settings, needed},
    dead_letters::{
        By, DeadLetters, Failed, Refusal, Selection,
        document::{GroupDocument, LetterDetail, LetterDocument, OutcomeDocument},
    },
    domain::{dead_letter::LetterState, prospect::Prospect},
    exit::Failure,
    store::{
        dead_letter::{Cursor, Filter},
        payment::Merchant,
    },
    wechat::{Ambient, exchange::PayClient},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// What is parked, newest first.
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// Show groups: letters that failed alike, or that would come to the same now.
        #[arg(long, value_parser = ["cause", "effect"])]
        group: Option<String>,
        /// Letters on a page.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// `next` of the page before.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// One letter with everything that is known about it.
    Show {
        letter_id: String,
        /// Ask WeChat about its order or refund as well.
        #[arg(long)]
        wechat: bool,
    },
    /// Put letters back to work. The set is frozen when it is asked for.
    Replay(dead_replay::Arguments),
    /// How far a replay is.
    Status {
        replay_id: Uuid,
        /// Each letter with its result.
        #[arg(long)]
        items: bool,
    },
    /// Let a running replay rest.
    Pause(TurnArguments),
    /// Go on with a paused replay.
    Resume(TurnArguments),
    /// End a replay; what was not published stays parked.
    Cancel(TurnArguments),
    /// Put letters away; never one whose order has open money. They can be restored.
    Discard {
        #[command(flatten)]
        chosen: ChosenArguments,
        /// Why; kept for ever.
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Put discarded letters back where they lay.
    Restore {
        #[arg(required = true)]
        letters: Vec<String>,
        /// Why; kept for ever.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Write down what is known about a cause.
    Note {
        cause: String,
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        note: String,
        #[command(flatten)]
        who: Who,
    },
    /// Who did what to which letters, and why.
    Acts {
        /// `next` of the page before.
        #[arg(long)]
        cursor: Option<i64>,
    },
}

#[derive(clap::Args)]
pub struct TurnArguments {
    replay_id: Uuid,
    /// Why; kept for ever.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    who: Who,
}

/// Who acts, for the record.
#[derive(clap::Args)]
pub struct Who {
    /// Your name, for the record.
    #[arg(long, env = "USER", default_value = "cli", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    operator: String,
}

impl Who {
    pub(super) fn actor(&self) -> String {
        format!("operator:{}", self.operator)
    }
}

/// Which letters.
#[derive(clap::Args)]
pub struct FilterArguments {
    /// `prepay`, `prepay.dead` or `orders.3`.
    #[arg(long)]
    queue: Option<String>,
    /// `x-error-class`.
    #[arg(long = "error-class", visible_alias = "class")]
    error_class: Option<String>,
    /// Such as `order.held`.
    #[arg(long, visible_alias = "type")]
    kind: Option<String>,
    #[arg(long = "order")]
    order_id: Option<String>,
    /// As groups are named.
    #[arg(long)]
    cause: Option<String>,
    /// What would come of it now, such as `would_confirm`.
    #[arg(long, value_parser = effect)]
    effect: Option<Prospect>,
    /// Somewhere in the error, the body or the message's id.
    #[arg(long)]
    text: Option<String>,
    /// Failed at least so long ago: 90s, 15m, 2h, 3d.
    #[arg(long, value_parser = age)]
    older_than: Option<Duration>,
    /// Failed at most so long ago.
    #[arg(long, value_parser = age)]
    newer_than: Option<Duration>,
    /// `parked`, `replayed`, `discarded` or `gone`.
    #[arg(long, default_value = "parked", value_parser = state)]
    state: LetterState,
}

impl FilterArguments {
    fn selection(&self) -> Selection {
        let before = |age: Option<Duration>| age.map(|age| OffsetDateTime::now_utc() - age);
        Selection {
            filter: Filter {
                state: Some(self.state),
                queue: self.queue.clone(),
                error_class: self.error_class.clone(),
                kind: self.kind.clone(),
                order_id: self.order_id.clone(),
                cause: self.cause.clone(),
                text: self.text.clone(),
                since: before(self.newer_than),
                until: before(self.older_than),
                letters: None,
            },
            effect: self.effect,
        }
    }

    fn chooses(&self) -> bool {
        let texts = [&self.queue, &self.error_class, &self.kind, &self.order_id, &self.cause, &self.text];
        texts.iter().any(|text| text.is_some())
            || self.effect.is_some()
            || self.older_than.is_some()
            || self.newer_than.is_some()
    }
}

/// Which letters something is done to: by name, by a filter, or all.
#[derive(clap::Args)]
pub struct ChosenArguments {
    /// Letters by name.
    #[arg(conflicts_with = "all")]
    letters: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Everything that is parked.
    #[arg(long)]
    all: bool,
}

impl ChosenArguments {
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        let mut selection = self.filter.selection();
        match (self.letters.is_empty(), self.all || self.filter.chooses()) {
            (false, false) => selection.filter.letters = Some(self.letters.clone()),
            (true, true) => {}
            (false, true) => return Err(Failure::wrong("letters by name, or a filter: not both")),
            (true, false) => return Err(Failure::wrong("which letters? By name, by a filter, or --all")),
        }
        Ok(selection)
    }

    /// For the record.
    pub(super) fn asked(&self) -> serde_json::Value {
        let FilterArguments { queue, error_class, kind, order_id, cause, text, .. } = &self.filter;
        json!({ "letters": self.letters.len(), "queue": queue, "error_class": error_class, "kind": kind,
                "order_id": order_id, "cause": cause, "text": text, "all": self.all })
    }
}

fn effect(text: &str) -> Result<Prospect, String> {
    Prospect::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Prospect::ALL.iter().map(|effect| effect.as_str()).collect();
        format!("one of {}", known.join(", "))
    })
}

fn state(text: &str) -> Result<LetterState, String> {
    let found = LetterState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "parked, replayed, discarded or gone".to_owned())
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and s, m, h or d, such as 15m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // Beyond what a calendar holds nothing can have failed.
    number.checked_mul(seconds).filter(|age| *age < 100 * 366 * 86_400).map(Duration::from_secs).ok_or_else(wrong)
}

pub async fn run(command: Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let dead = dead_letters(settings)?;
    let ran = carry_out(command, &dead, settings, json).await;
    dead.broker.close().await;
    ran
}

fn dead_letters(settings: &Settings) -> Result<DeadLetters, Failure> {
    let url = needed("broker.url", &settings.broker.url)?;
    let text = |setting: &str, value: &Option<String>| -> Result<String, Failure> {
        let value = needed(setting, &value.clone().map(SecretString::from))?;
        Ok(value.expose_secret().to_owned())
    };
    Ok(DeadLetters {
        db: super::database(settings)?,
        broker: Broker::start(&url, "dead", settings.broker.confirm_within()),
        personal: Arc::new(settings.personal.load()?),
        merchant: Merchant {
            mchid: text("wechat_pay.mchid", &settings.wechat_pay.mchid)?,
            appid: text("wechat_pay.appid", &settings.wechat_pay.appid)?,
        },
    })
}

async fn carry_out(command: Command, dead: &DeadLetters, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::List { filter, group: Some(by), .. } => {
            let by = if by == "effect" { By::Effect } else { By::Cause };
            let page = Page { items: dead.groups(&filter.selection(), by).await?, next: None };
            super::print(json, &page, || groups_in_words(&page.items));
        }
        Command::List { filter, limit, cursor, .. } => {
            let after = cursor.as_deref().map(read_cursor).transpose()?;
            let mut items = dead.list(&filter.selection(), after.as_ref(), limit + 1).await?;
            let more = i64::try_from(items.len()).is_ok_and(|count| count > limit);
            items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let next = items.last().filter(|_| more).map(cursor_after);
            let page = Page { items, next };
            super::print(json, &page, || letters_in_words(&page));
        }
        Command::Show { letter_id, wechat } => show(dead, &letter_id, wechat, settings, json).await?,
        Command::Replay(arguments) => dead_replay::run(arguments, dead, json).await?,
        Command::Status { replay_id, items } => dead_replay::status(dead, replay_id, items, json).await?,
        Command::Pause(turn) => dead_replay::turn(dead, dead_replay::Turned::Pause, &turn, json).await?,
        Command::Resume(turn) => dead_replay::turn(dead, dead_replay::Turned::Resume, &turn, json).await?,
        Command::Cancel(turn) => dead_replay::turn(dead, dead_replay::Turned::Cancel, &turn, json).await?,
        Command::Discard { chosen, reason, who } => {
            let outcome = dead.discard(&chosen.selection()?, &who.actor(), &reason).await?;
            return told("discarded", &outcome, json);
        }
        Command::Restore { letters, reason, who } => {
            let outcome = dead.restore(&letters, &who.actor(), &reason).await?;
            return told("restored", &outcome, json);
        }
        Command::Note { cause, note, who } => {
            dead.note(&cause, &who.actor(), &note).await?;
            super::print(json, &json!({ "cause": cause, "note": note }), || "noted".into());
        }
        Command::Acts { cursor } => {
            const PAGE: i64 = 50;
            let acts = dead.acts(cursor, PAGE).await?;
            let next = acts.last().filter(|_| acts.len() == 50).map(|(number, _)| number.to_string());
            let page = Page { items: acts.into_iter().map(|(_, act)| act).collect::<Vec<_>>(), next };
            super::print(json, &page, || {
                let rows = page.items.iter().map(|act| {
                    vec![
                        moment(act.at),
                        act.actor.clone(),
                        act.act.clone(),
                        act.letters.len().to_string(),
                        act.reason.clone(),
                    ]
                });
                super::table(&["at", "who", "what", "letters", "why"], rows)
            });
        }
    }
    Ok(())
}

impl TurnArguments {
    pub(super) fn parts(&self) -> (Uuid, &str, String) {
        (self.replay_id, &self.reason, self.who.actor())
    }
}

async fn show(dead: &DeadLetters, id: &str, ask: bool, settings: &Settings, json: bool) -> Result<(), Failure> {
    let detail = dead.show(id).await?;
    let mut document = serde_json::to_value(&detail).expect("plain data");
    if ask {
        let account = Arc::new(settings.wechat_pay.load()?);
        let wechat = PayClient::new(account, Ambient::system())
            .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
        document["wechat"] = serde_json::to_value(dead.ask_wechat(id, &wechat).await?).expect("plain data");
    }
    super::print(json, &document, || detail_in_words(&detail, &document["wechat"]));
    Ok(())
}

fn detail_in_words(detail: &LetterDetail, wechat: &serde_json::Value) -> String {
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
    super::table(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), printable(&value)]))
}

fn letters_in_words(page: &Page<LetterDocument>) -> String {
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
        columns.iter().map(|text| printable(text)).collect()
    });
    let mut words =
        super::table(&["letter", "failed", "queue", "kind", "class", "order", "effect now", "open", "error"], rows);
    if let Some(next) = &page.next {
        words.push_str(&format!("\nmore: --cursor {next}"));
    }
    words
}

fn groups_in_words(groups: &[GroupDocument]) -> String {
    let rows = groups.iter().map(|group| {
        let effects = group.effects.iter().map(|(effect, count)| format!("{count} {effect}"));
        vec![
            group.group.clone(),
            group.letters.to_string(),
            group.orders.to_string(),
            group.money_fen.to_string(),
            group.open_fen.to_string(),
            group.next_deadline.map(moment).unwrap_or_default(),
            printable(&format!("{} {} {}: {}", group.queue, group.kind, group.error_class, group.pattern)),
            effects.collect::<Vec<_>>().join(", "),
            group.notes.last().map(|note| printable(&note.note)).unwrap_or_default(),
        ]
    });
    super::table(
        &["group", "letters", "orders", "money", "open", "next deadline", "cause", "effects now", "note"],
        rows,
    )
}

fn told(what: &str, outcome: &OutcomeDocument, json: bool) -> Result<(), Failure> {
    super::print(json, outcome, || {
        let mut words = format!("{} {what}", outcome.letters.len());
        for refused in &outcome.refused {
            words.push_str(&format!("\n{} stays: {}", refused.letter_id, refused.why));
        }
        words
    });
    if outcome.refused.is_empty() { Ok(()) } else { Err(Failure::No(format!("{} stay", outcome.refused.len()))) }
}

/// A message may hold anything; a terminal should not obey it.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

fn moment(at: OffsetDateTime) -> String {
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}

fn cursor_after(letter: &LetterDocument) -> String {
    format!("{}/{}", letter.failed_at.unix_timestamp_nanos(), letter.letter_id)
}

fn read_cursor(text: &str) -> Result<Cursor, Failure> {
    let wrong = || Failure::wrong("--cursor is not one of this list");
    let (nanos, id) = text.split_once('/').ok_or_else(wrong)?;
    let nanos = nanos.parse().map_err(|_| wrong())?;
    let failed_at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| wrong())?;
    Ok(Cursor { failed_at, letter_id: id.to_owned() })
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => error.into(),
            Failed::Broker(away) => away.into(),
            Failed::Refused(refusal @ Refusal::Unpatchable { .. }) => Self::wrong(refusal.to_string()),
            Failed::Refused(refusal) => Self::No(refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(age("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(age("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "m", "15", "-1s", "1w", "99999999999999999d", "é"] {
            assert!(age(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_message_says_does_not_move_the_cursor_of_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
