//! `holdfast dead replay` and its kin. The command carries its replay out itself; killed, the worker `reconcile` goes
//! on, and so does the next command that names it.

use std::{cell::Cell, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Page,
    dead_arguments::{ChosenArguments, TurnArguments, Who},
};
use crate::{
    dead_letters::{DeadLetters, Plan, Turn, document::ReplayDocument},
    domain::{dead_letter::ReplayState, json::has_nul},
    exit::Failure,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    chosen: ChosenArguments,
    /// A set that was frozen before, by a dry run: start it, or go on with it.
    #[arg(long, value_name = "REPLAY_ID", conflicts_with_all = ["letters", "all", "patch", "dry_run"])]
    manifest: Option<Uuid>,
    /// With --manifest: refuse when it is another set than the one that was looked at.
    #[arg(long, requires = "manifest", value_parser = super::letter)]
    hash: Option<String>,
    /// Freeze the set and show what would come of it; publish nothing.
    #[arg(long)]
    dry_run: bool,
    /// Why; kept for ever. Needed with --patch.
    #[arg(long, value_parser = super::note)]
    reason: Option<String>,
    /// So many go first, alone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    canary: i32,
    /// Letters per second, as 500 or 500/s.
    #[arg(long, default_value = "500/s", value_parser = rate)]
    rate: i32,
    /// Pause when more than this share (in percent) of what was published was parked again.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(0..=100))]
    stop_at: i32,
    /// A JSON merge patch for the bodies, such as '{"amount_fen":20000}'.
    #[arg(long, value_parser = patch)]
    patch: Option<Value>,
    #[command(flatten)]
    who: Who,
}

fn rate(text: &str) -> Result<i32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    number.filter(|rate| (1..=10_000).contains(rate)).ok_or_else(|| "1 to 10000 per second".to_owned())
}

fn patch(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(patch) if has_nul(&patch) => Err("must not contain NUL".into()),
        Ok(patch @ Value::Object(_)) => Ok(patch),
        Ok(_) => Err("must be a JSON object".into()),
        Err(error) => Err(error.to_string()),
    }
}

pub async fn run(arguments: Arguments, dead: &DeadLetters, json: bool) -> Result<(), Failure> {
    let actor = arguments.who.actor();
    let reason = arguments.reason.unwrap_or_default();
    let replay = match arguments.manifest {
        Some(id) => dead.turn(id, Turn::Start, arguments.hash.as_deref(), &actor, &reason).await?,
        None => {
            if arguments.patch.is_some() && reason.is_empty() {
                return Err(Failure::wrong("--patch needs a --reason"));
            }
            let plan = Plan {
                asked: arguments.chosen.asked(),
                dry_run: arguments.dry_run,
                canary: arguments.canary,
                per_second: arguments.rate,
                stop_percent: arguments.stop_at,
                patch: arguments.patch,
                ..Plan::new(actor, reason)
            };
            dead.plan(&arguments.chosen.selection()?, plan).await?
        }
    };
    let replay = if arguments.dry_run { replay } else { carry_out(dead, replay.replay_id).await? };
    super::print(json, &replay, || in_words(&replay));
    judge(&replay)
}

/// Stays until the replay is finished, paused or cancelled; carries it out unless somebody else does.
async fn carry_out(dead: &DeadLetters, id: Uuid) -> Result<ReplayDocument, Failure> {
    let told = Cell::new(None);
    // Ctrl-C ends the process; what is left is carried on by others.
    let stop = CancellationToken::new();
    loop {
        let ended = dead.perform(id, &stop, |replay| {
            let now = (replay.sent() + replay.skipped, replay.parked_again);
            if told.replace(Some(now)) != Some(now) {
                let (dealt_with, parked_again) = now;
                eprintln!("{dealt_with} of {} dealt with, {parked_again} parked again", replay.letters);
            }
        });
        ended.await?;
        let replay = dead.replay(id).await?;
        if replay.state != ReplayState::Running {
            return Ok(replay);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

pub async fn status(dead: &DeadLetters, id: Uuid, items: bool, json: bool) -> Result<(), Failure> {
    if !items {
        let replay = dead.replay(id).await?;
        super::print(json, &replay, || in_words(&replay));
        return Ok(());
    }
    let page = Page { items: dead.items(id, 0, i64::MAX).await?, next: None };
    super::print(json, &page, || {
        let rows = page.items.iter().map(|item| {
            vec![
                item.place.to_string(),
                item.letter_id.clone(),
                item.message_id.clone().unwrap_or_default(),
                item.effect.clone(),
                item.result.as_str().to_owned(),
                item.detail.clone().unwrap_or_default(),
            ]
        });
        super::table(&["", "letter", "message", "would have", "result", "why"], rows)
    });
    Ok(())
}

/// What the command line calls it.
#[derive(Clone, Copy)]
pub enum Turned {
    Pause,
    Resume,
    Cancel,
}

pub async fn turn(dead: &DeadLetters, turned: Turned, arguments: &TurnArguments, json: bool) -> Result<(), Failure> {
    let turn = match turned {
        Turned::Pause => Turn::Pause,
        Turned::Resume => Turn::Start,
        Turned::Cancel => Turn::Cancel,
    };
    let (id, reason, actor) = arguments.parts();
    let mut replay = dead.turn(id, turn, None, &actor, reason).await?;
    if turn == Turn::Start {
        replay = carry_out(dead, id).await?;
    }
    super::print(json, &replay, || in_words(&replay));
    if turn == Turn::Start { judge(&replay) } else { Ok(()) }
}

fn in_words(replay: &ReplayDocument) -> String {
    let mut words = format!("replay {} is {}; hash {}\n", replay.replay_id, replay.state.as_str(), replay.hash);
    if let Some(why) = &replay.paused_why {
        words.push_str(&format!("paused: {why}\n"));
    }
    for (effect, sums) in replay.effects.as_object().into_iter().flatten() {
        words.push_str(&format!("  {effect}: {} letters, {} orders\n", sums["letters"], sums["orders"]));
    }
    for change in &replay.differences {
        words.push_str(&format!("  {}: {} -> {}\n", change.path, change.before, change.after));
    }
    words.push_str(&format!(
        "{} letters: {} done, {} published, {} parked again, {} skipped, {} to go",
        replay.letters, replay.done, replay.published, replay.parked_again, replay.skipped, replay.pending
    ));
    if replay.state == ReplayState::Planned {
        words.push_str(&format!("\nto replay them: holdfast dead replay --manifest {}", replay.replay_id));
    }
    words
}

/// The answer is "no" when a letter did not get through.
fn judge(replay: &ReplayDocument) -> Result<(), Failure> {
    let failed = replay.parked_again + replay.skipped;
    match replay.state {
        ReplayState::Planned | ReplayState::Running | ReplayState::Finished if failed == 0 => Ok(()),
        ReplayState::Paused => Err(Failure::No("the replay paused".into())),
        ReplayState::Cancelled => Err(Failure::No("the replay was cancelled".into())),
        _ => Err(Failure::No(format!("{failed} letters did not get through"))),
    }
}
