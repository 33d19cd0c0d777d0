//! `holdfast schedule cancel`: ends a session and gives everybody their money back. Can be interrupted and run again.

use serde::Serialize;

use crate::{
    broker::Broker,
    config::{Settings, needed},
    desk::cancellation::{self, Cancellation, FASTEST, Interrupted, LONGEST_REASON, REASON},
    domain::ids::ScheduleId,
    exit::Failure,
    store::{self, cancellation::Progress},
};

#[derive(clap::Args)]
pub struct Arguments {
    schedule_id: String,
    /// Show what would be given back, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// What customers read in WeChat beside their refund: at most 80 bytes.
    #[arg(long, default_value = REASON, value_parser = reason)]
    reason: String,
    /// Refunds and cancellations asked for per second, as 5 or 5/s: at most 150.
    #[arg(long, default_value = "5/s", value_parser = rate)]
    rate: u32,
    /// Stay until every refund has WeChat's last word.
    #[arg(long)]
    wait: bool,
}

fn reason(text: &str) -> Result<String, String> {
    let fits = (1..=LONGEST_REASON).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("1 to {LONGEST_REASON} bytes, no control characters")) }
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
    progress: Progress,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let schedule = super::schedule_id(&arguments.schedule_id)?;
    let db = super::database(settings)?;
    if store::schedule::find(db.pool(), schedule).await?.is_none() {
        return Err(super::no_schedule(schedule));
    }
    if !arguments.dry_run {
        cancellation::close(&db, super::cache(settings).as_ref(), schedule).await?;
        let url = needed("broker.url", &settings.broker.url)?;
        let broker = Broker::start(&url, "schedule cancel", settings.broker.confirm_within());
        let mut cancellation = Cancellation::new(
            &db,
            &broker.publisher,
            schedule,
            &arguments.reason,
            "operator:schedule-cancel",
            arguments.rate,
            |words| eprintln!("{words}"),
        );
        cancellation.ask_until_nothing_is_left().await?;
        if arguments.wait {
            cancellation.wait_for_refunds().await?;
        }
        broker.close().await;
    }
    let progress = store::cancellation::progress(db.pool(), schedule).await?;
    let report = Report { schedule_id: schedule, dry_run: arguments.dry_run, progress };
    super::print(json, &report, || told(&report));
    Ok(())
}

impl From<Interrupted> for Failure {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Store(error) => error.into(),
            Interrupted::Broker { .. } => Self::Away(interrupted.to_string()),
            Interrupted::NobodyWorks(_) => Self::No(interrupted.to_string()),
        }
    }
}

fn told(Report { schedule_id, dry_run, progress }: &Report) -> String {
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
