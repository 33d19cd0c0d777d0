//! `holdfast dead`: messages that nobody could handle. Looking takes nothing out of a queue.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use super::{
    Page,
    dead_arguments::{ChosenArguments, FilterArguments, TurnArguments, Who},
    dead_replay, dead_words as words,
};
use crate::{
    broker::Broker,
    config::{Settings, needed},
    dead_letters::{
        By, DeadLetters, Failed, Refusal,
        document::{LetterDocument, OutcomeDocument},
    },
    domain::calendar::Moment,
    exit::Failure,
    store::{dead_letter::Cursor, payment::Merchant},
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
        #[arg(value_parser = super::letter)]
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
        #[arg(long, value_parser = super::note)]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
    /// Put discarded letters back where they lay.
    Restore {
        #[arg(required = true, value_parser = super::letter)]
        letters: Vec<String>,
        /// Why; kept for ever.
        #[arg(long, value_parser = super::note)]
        reason: Option<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Write down what is known about a cause.
    Note {
        #[arg(value_parser = super::letter)]
        cause: String,
        /// 1 to 2 000 characters; line breaks are kept.
        #[arg(value_parser = super::note)]
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
            super::print(json, &page, || words::of_groups(&page.items));
        }
        Command::List { filter, limit, cursor, .. } => {
            let after = cursor.as_deref().map(read_cursor).transpose()?;
            let mut items = dead.list(&filter.selection(), after.as_ref(), limit + 1).await?;
            let more = i64::try_from(items.len()).is_ok_and(|count| count > limit);
            items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let next = items.last().filter(|_| more).map(cursor_after);
            let page = Page { items, next };
            super::print(json, &page, || words::of_letters(&page));
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
            let outcome = dead.restore(&letters, &who.actor(), reason.as_deref().unwrap_or_default()).await?;
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
            super::print(json, &page, || words::of_acts(&page.items));
        }
    }
    Ok(())
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
    super::print(json, &document, || words::of_letter(&detail, &document["wechat"]));
    Ok(())
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

fn cursor_after(letter: &LetterDocument) -> String {
    format!("{}/{}", letter.failed_at.unix_timestamp_nanos(), letter.letter_id)
}

fn read_cursor(text: &str) -> Result<Cursor, Failure> {
    let wrong = || Failure::wrong("--cursor is not one of this list");
    let (nanos, id) = text.split_once('/').ok_or_else(wrong)?;
    let failed_at = nanos.parse().ok().and_then(Moment::of_nanos).ok_or_else(wrong)?.get();
    Ok(Cursor { failed_at, letter_id: super::letter(id).map_err(|_| wrong())? })
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
