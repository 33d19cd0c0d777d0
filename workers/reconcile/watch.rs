//! What the leader tells about the whole system, for dashboards and alarms: how full the queues are, what is open in
//! the books, and when each queue was sent its last canary.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Interrupted;
use crate::{
    broker::{Broker, watch::Depth},
    domain::message::Queue,
    store::{
        Database,
        standing::{self, Standing},
        sweep::Pass,
    },
};

/// A gauge and its label's value.
type Told = (&'static str, &'static str, String);

pub(super) struct Watch {
    canary_every: Duration,
    canary_sent: Option<Instant>,
    told: BTreeSet<Told>,
}

impl Watch {
    pub(super) fn new(canary_every: Duration) -> Self {
        Self { canary_every, canary_sent: None, told: BTreeSet::new() }
    }

    /// Looks once and tells.
    pub(super) async fn look(&mut self, db: &Database, broker: &Broker, pass: &Pass) -> Result<(), Interrupted> {
        let mut told = BTreeSet::new();
        let standing = standing::standing(db, pass).await?;
        for open in &standing {
            tell_open(open, pass.now, &mut told);
        }
        let depths = broker.depths().await?.told;
        for depth in &depths {
            gauge(&mut told, "queue_messages_ready", "queue", &depth.queue, f64::from(depth.ready));
            gauge(&mut told, "queue_consumers", "queue", &depth.queue, f64::from(depth.consumers));
        }
        // A kind of case or refund of which there is none any more.
        for (name, label, value) in self.told.difference(&told) {
            metrics::gauge!(*name, *label => value.clone()).set(0.0);
        }
        self.told = told;
        if !self.canary_every.is_zero() && self.canary_sent.is_none_or(|sent| sent.elapsed() >= self.canary_every) {
            self.canary_sent = Some(Instant::now());
            send_canaries(broker, &depths).await?;
        }
        Ok(())
    }

    /// Another process leads now: what this one told is nobody's word any more.
    pub(super) fn forget(&mut self) {
        for (name, label, value) in std::mem::take(&mut self.told) {
            metrics::gauge!(name, label => value).set(f64::NAN);
        }
    }
}

fn tell_open(open: &Standing, now: OffsetDateTime, told: &mut BTreeSet<Told>) {
    let age = open.oldest.map_or(0.0, |oldest| (now - oldest).as_seconds_f64().max(0.0));
    let (count, money, oldest, label) = match open.what.as_str() {
        "overdue" => ("overdue", None, "overdue_oldest_seconds", "kind"),
        "refunds" => ("refunds_open", Some("refunds_open_fen"), "refunds_open_oldest_seconds", "status"),
        _ => ("cases_open", Some("cases_open_fen"), "cases_open_oldest_seconds", "kind"),
    };
    gauge(told, count, label, &open.kind, open.count as f64);
    gauge(told, oldest, label, &open.kind, age);
    if let Some(money) = money {
        gauge(told, money, label, &open.kind, open.money_fen as f64);
    }
}

fn gauge(told: &mut BTreeSet<Told>, name: &'static str, label: &'static str, value: &str, number: f64) {
    metrics::gauge!(name, label => value.to_owned()).set(number);
    told.insert((name, label, value.to_owned()));
}

/// A canary into every queue that somebody consumes and that has no line: a line, or nobody there, is told by the
/// gauges above, and canaries must not pile up behind it.
async fn send_canaries(broker: &Broker, depths: &[Depth]) -> Result<(), Interrupted> {
    let now = OffsetDateTime::now_utc();
    for queue in Queue::all() {
        let name = queue.name();
        if depths.iter().any(|depth| depth.queue == name && depth.ready == 0 && depth.consumers > 0) {
            broker.send_canary(queue, now).await?;
            metrics::gauge!("canary_sent_timestamp_seconds", "queue" => name).set(now.unix_timestamp() as f64);
        }
    }
    Ok(())
}
