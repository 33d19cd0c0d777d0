//! `holdfast schedule cancel`: ends a session and gives everybody their money back. The intent is in the books when the
//! command has said so; from then on it only shows how far the workers are, and can be interrupted.

use serde::Serialize;

use crate::{
    config::Settings,
    desk::cancellation::{self, FASTEST, REASON, Unwatched},
    domain::{ids::ScheduleId, text::refund_reason},
    exit::Failure,
    store::{
        self,
        cancellation::{CancellationDocument, NewCancellation},
    },
};

#[derive(clap::Args)]
pub struct Arguments {
    schedule_id: String,
    /// Show what would be given back, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// What customers read in WeChat beside their refund: at most 80 bytes.
    #[arg(long, default_value = REASON, value_parser = refund_reason)]
    reason: String,
    /// Refunds and cancellations asked for per second, as 5 or 5/s: at most 150.
    #[arg(long, default_value = "5/s", value_parser = rate)]
    rate: u32,
    /// Your name, for the record.
    #[arg(long = "as", env = "USER", default_value = "cli", value_parser = super::operator)]
    operator: String,
    /// Stay until every refund has WeChat's last word.
    #[arg(long)]
    wait: bool,
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    number.filter(|rate| (1..=FASTEST).contains(rate)).ok_or_else(|| format!("1 to {FASTEST} per second"))
}

#[derive(Serialize)]
struct Report {
    schedule_id: ScheduleId,
    dry_run: bool,
    #[serde(flatten)]
    cancellation: CancellationDocument,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let schedule_id = super::schedule_id(&arguments.schedule_id)?;
    let db = super::database(settings)?;
    if store::schedule::find(db.pool(), schedule_id).await?.is_none() {
        return Err(super::no_schedule(schedule_id));
    }
    if !arguments.dry_run {
        let new = NewCancellation {
            schedule_id,
            requested_by: format!("operator:{}", arguments.operator),
            reason: arguments.reason.clone(),
            rate: i32::try_from(arguments.rate).unwrap_or(1),
        };
        cancellation::cancel(&db, super::cache(settings).as_ref(), &new).await?;
        eprintln!("the session is cancelled; the workers carry it on. This command may be interrupted");
        cancellation::watch(&db, schedule_id, arguments.wait, |words| eprintln!("{words}")).await?;
    }
    let cancellation = store::cancellation::find(&db, schedule_id).await?;
    let report = Report { schedule_id, dry_run: arguments.dry_run, cancellation };
    super::print(json, &report, || told(&report));
    Ok(())
}

impl From<Unwatched> for Failure {
    fn from(unwatched: Unwatched) -> Self {
        match unwatched {
            Unwatched::Store(error) => error.into(),
            Unwatched::Standstill(_) | Unwatched::NotClosed => Self::No(unwatched.to_string()),
        }
    }
}

fn told(Report { schedule_id, dry_run, cancellation }: &Report) -> String {
    let progress = &cancellation.progress;
    let head = if *dry_run { "would be asked for, of session" } else { "session is cancelled:" };
    let rows = [
        ("bookings to refund", progress.bookings, Some(progress.bookings_fen)),
        ("unpaid orders to cancel", progress.unpaid, None),
        ("refunds under way", progress.refunds_open, Some(progress.refunds_open_fen)),
        ("refunds succeeded", progress.refunds_succeeded, Some(progress.refunds_succeeded_fen)),
        ("refunds abnormal (cases)", progress.refunds_abnormal, Some(progress.refunds_abnormal_fen)),
    ];
    let rows = rows.map(|(what, count, fen)| {
        vec![what.to_owned(), count.to_string(), fen.map(|fen| fen.to_string()).unwrap_or_default()]
    });
    format!("{head} {schedule_id}\n{}", super::table(&["", "count", "money"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_with_and_without_its_unit_and_has_wechats_limit() {
        assert_eq!(rate("5"), Ok(5));
        assert_eq!(rate("150/s"), Ok(150));
        for wrong in ["0", "151/s", "fast", "", "-1"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
