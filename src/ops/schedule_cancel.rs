//! `holdfast schedule cancel`: ends a session and gives everybody their money back, at a rate that WeChat takes.
//!
//! It keeps no record of its own: each round asks the books what is still missing and asks the workers for that.
//! Interrupted and started again, or run twice at once, it refunds nobody twice, because an order's refund for
//! this reason has one number for ever.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{
    broker::{Broker, PublishError},
    config::{Settings, needed},
    domain::{
        ids::{RefundId, ScheduleId},
        message::{Message, OrderCancel, RefundRequested},
        order::Status,
    },
    exit::Failure,
    store::{
        self, Database,
        cancellation::{Left, Progress},
    },
};

/// Orders read from the books at a time.
const PAGE: i64 = 500;
/// WeChat accepts so many refunds a second of one merchant (refund, rates).
const FASTEST: u32 = 150;
/// How long the workers may change nothing before it is said that they do not work.
const PATIENCE: Duration = Duration::from_secs(60);
/// WeChat's limit of a refund's reason, in bytes.
const LONGEST_REASON: usize = 80;

#[derive(clap::Args)]
pub struct Arguments {
    schedule_id: String,
    /// Show what would be given back, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// What customers read in WeChat beside their refund: at most 80 bytes.
    #[arg(long, default_value = "课程取消", value_parser = reason)]
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
    let schedule =
        ScheduleId::parse(&arguments.schedule_id).map_err(|malformed| Failure::wrong(malformed.to_string()))?;
    let db = super::database(settings)?;
    let Some(mut document) = store::schedule::find(db.pool(), schedule).await? else {
        return Err(Failure::No(format!("there is no session {schedule}")));
    };
    if !arguments.dry_run {
        store::cancellation::close(&db, schedule).await?;
        document.status = "cancelled".into();
        super::schedule::announce(settings, std::slice::from_ref(&document)).await;
        if let Some(cache) = super::cache(settings) {
            // Without the cache it is forgotten by itself.
            let _ = cache.invalidate(&[schedule]).await;
        }
        let url = needed("broker.url", &settings.broker.url)?;
        let broker = Broker::start(&url, "schedule cancel", settings.broker.confirm_within());
        let mut pace = interval(Duration::from_secs(1) / arguments.rate);
        // Lost time is not made up for: the rate is never exceeded.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cancellation = Cancellation { db: &db, broker, schedule, reason: &arguments.reason, pace };
        cancellation.ask_until_nothing_is_left().await?;
        if arguments.wait {
            cancellation.wait_for_refunds().await?;
        }
        cancellation.broker.close().await;
    }
    let progress = store::cancellation::progress(db.pool(), schedule).await?;
    let report = Report { schedule_id: schedule, dry_run: arguments.dry_run, progress };
    super::print(json, &report, || told(&report));
    Ok(())
}

struct Cancellation<'a> {
    db: &'a Database,
    broker: Broker,
    schedule: ScheduleId,
    reason: &'a str,
    pace: Interval,
}

impl Cancellation<'_> {
    /// Rounds until the books know a refund for every booking and the end of every other order. One may not be
    /// enough: who paid while being cancelled has a booking now.
    async fn ask_until_nothing_is_left(&mut self) -> Result<(), Failure> {
        let mut left = self.progress().await?.left();
        let mut changed = Instant::now();
        while left > 0 {
            self.ask_for_all(left).await?;
            // The workers need a moment; asking again sooner would only lengthen their queues.
            let asked = Instant::now();
            while left > 0 && asked.elapsed() < PATIENCE / 2 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let now_left = self.progress().await?.left();
                if now_left != left {
                    changed = Instant::now();
                    eprintln!("{now_left} orders are still to be taken up by the workers");
                }
                left = now_left;
            }
            if left > 0 && changed.elapsed() > PATIENCE {
                return Err(Failure::No(format!(
                    "{left} orders stay as they are: do the workers `refunds` and `expiry` run? Everything is asked for; \
                     run this command again to see to it"
                )));
            }
        }
        Ok(())
    }

    /// One round through all orders for which something must still be asked.
    async fn ask_for_all(&mut self, left: i64) -> Result<(), Failure> {
        let mut asked = 0;
        let mut after = 0;
        let mut told = Instant::now();
        loop {
            let page = store::cancellation::left(self.db.pool(), self.schedule, after, PAGE).await?;
            for order in &page {
                self.pace.tick().await;
                self.ask(order).await.map_err(|error| {
                    Failure::Away(format!("{asked} asked for, then: {error}; run the command again to go on"))
                })?;
                asked += 1;
                after = order.arrival;
                if told.elapsed() >= Duration::from_secs(1) {
                    eprintln!("{asked} of {left} asked for");
                    told = Instant::now();
                }
            }
            if page.is_empty() {
                eprintln!("{asked} of {left} asked for");
                return Ok(());
            }
        }
    }

    async fn ask(&self, order: &Left) -> Result<(), PublishError> {
        let request_id = format!("schedule-cancel-{}", Uuid::now_v7());
        let message = if order.status == Status::Confirmed {
            Message::RefundRequested(RefundRequested {
                refund_id: RefundId::of_cancelled_session(&order.order_id),
                order_id: order.order_id.clone(),
                amount_fen: None,
                reason: self.reason.to_owned(),
                requested_by: "operator:schedule-cancel".into(),
                request_id,
            })
        } else {
            Message::OrderCancel(OrderCancel {
                order_id: order.order_id.clone(),
                user_id: order.user_id.clone(),
                request_id,
            })
        };
        self.broker.publisher.publish_all(&[message]).await
    }

    async fn wait_for_refunds(&self) -> Result<(), Failure> {
        let mut told = None;
        loop {
            let open = self.progress().await?.refunds_open;
            if open == 0 {
                return Ok(());
            }
            if told.replace(open) != Some(open) {
                eprintln!("{open} refunds wait for WeChat's last word");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn progress(&self) -> Result<Progress, Failure> {
        Ok(store::cancellation::progress(self.db.pool(), self.schedule).await?)
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
