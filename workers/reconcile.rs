//! Worker `reconcile`: puts what is overdue back onto the queues, and watches over the whole. Beside it, [`books`]
//! compares each day with WeChat's bill, and [`cancellations`] carries cancelled sessions to their end.
//!
//! Consumes   the clock; of several instances one leads, by a lock of PostgreSQL
//! Changes    `swept_at` of payment_orders, refunds, notifications and order_overrides; the broker's missing queues;
//!            the partitions of audit log and trace; book_days, book_differences, cases; schedule_cancellations
//! Emits      order.held, order.alarm, order.override, refund.due, notification.due, payment.seen, refund.seen;
//!            refund.requested and order.cancel of cancelled sessions; canaries into every queue
//! Calls      WeChat: bill, query of a payment or refund that the bill tells otherwise
//! Retries    with the next pass, whatever failed
//! Safe twice because every message it sends is one that its worker has to take twice anyway

pub mod books;
pub mod cancellations;
mod watch;

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use watch::Watch;

use crate::{
    broker::{
        Broker, BrokerAway, PublishError,
        topology::{Difference, Topology, Uses},
    },
    domain::{
        ids::OrderId,
        message::{Alarm, Message, OrderAlarm},
    },
    store::{
        self, Database, StoreError,
        leader::Candidate,
        sweep::{self, Intent, Pass},
    },
};

const A_DAY: Duration = Duration::from_secs(24 * 3_600);
/// A housekeeping that was interrupted is tried again after this.
const HOUSEKEEPING_AGAIN: Duration = Duration::from_secs(60);

pub struct Reconcile {
    pub db: Database,
    pub broker: Broker,
    pub pace: Pace,
}

/// How often, how much and how soon.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub every: Duration,
    /// How late an intent must be to be swept.
    pub grace: Duration,
    /// Intents per statement and per burst of publishes.
    pub batch: u16,
    /// Between two canaries of a queue; zero sends none.
    pub canary_every: Duration,
    /// Between two looks at WeChat for an unpaid order.
    pub check: Duration,
    /// Months of the audit log, and of the trace, that stay.
    pub keep_audit: u16,
    pub keep_traces: u16,
}

/// Why a piece of work has to wait for the next pass.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerAway),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// A pass that takes longer has very much to do, or waits on a connection that is dead without a reset. What it swept is
/// marked, so cutting it short loses nothing.
const PASS_WITHIN: Duration = Duration::from_secs(60);

impl Reconcile {
    /// Works at each tick, while it leads, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(self.pace.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut candidate = Candidate::new(self.db.clone(), "reconcile");
        let mut housekeeping_due = Instant::now();
        let mut watch = Watch::new(self.pace.canary_every);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => break,
            }
            // Also without leading: readiness looks whether this connection stands.
            if let Err(error) = self.broker.consuming.touch().await {
                tracing::warn!(%error, "the broker is away");
            }
            let leads = candidate.leads().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "nobody is known to lead");
                false
            });
            metrics::gauge!("reconcile_leads").set(if leads { 1.0 } else { 0.0 });
            if !leads {
                watch.forget();
                continue;
            }
            if Instant::now() >= housekeeping_due {
                let pause = match self.housekeeping().await {
                    Ok(()) => A_DAY,
                    // A long reader, such as a backup, has what is to be changed: there are months of time.
                    Err(error @ StoreError::Conflict(_)) => {
                        tracing::info!(%error, "the daily housekeeping waits for a reader");
                        HOUSEKEEPING_AGAIN
                    }
                    Err(error) => {
                        tracing::error!(%error, "the daily housekeeping was interrupted");
                        HOUSEKEEPING_AGAIN
                    }
                };
                housekeeping_due = Instant::now() + pause;
            }
            if timeout(PASS_WITHIN, self.pass(&mut watch, &stop)).await.is_err() {
                tracing::warn!("the pass took too long; the next one goes on where it was");
            }
        }
        candidate.resign().await;
    }

    /// The next months' partitions are made, those whose time is over are dropped; of the audit log only where this is
    /// its owner, since nobody else can. Otherwise whoever is runs `holdfast audit prune`.
    async fn housekeeping(&self) -> Result<(), StoreError> {
        let made = self.db.make_partitions(self.pace.keep_traces).await;
        if store::retention::is_owner(&self.db).await? {
            store::retention::prune(&self.db, self.pace.keep_audit, false).await?;
        }
        made
    }

    /// One pass through everything. What fails is told and waits for the next one; the rest goes on.
    async fn pass(&self, watch: &mut Watch, stop: &CancellationToken) {
        let started = Instant::now();
        let pass = async {
            let queues_were_lost = self.mend_topology().await?;
            Ok::<_, Interrupted>(Pass::begin(&self.db, self.pace.grace, queues_were_lost).await?)
        };
        let pass = match pass.await {
            Ok(pass) => pass,
            Err(error) => return tracing::warn!(%error, "nothing could be swept"),
        };
        if pass.queues_were_lost
            && let Err(error) = self.look_again(stop).await
        {
            tracing::warn!(%error, "WeChat is not looked at again for every unpaid order; the end of its hold will");
        }
        for intent in Intent::ALL {
            let kind = intent.as_str();
            if let Err(error) = self.sweep(intent, &pass, stop).await {
                metrics::counter!("reconcile_interrupted_total", "kind" => kind).increment(1);
                tracing::warn!(kind, %error, "the sweep was interrupted");
            }
        }
        if let Err(error) = watch.look(&self.db, &self.broker, &pass).await {
            tracing::warn!(%error, "not everything could be looked at");
        }
        metrics::histogram!("reconcile_pass_seconds").record(started.elapsed().as_secs_f64());
    }

    /// Declares what the broker has lost; says whether there was anything. What is there and different is a
    /// person's to mend, since there may be messages in it.
    async fn mend_topology(&self) -> Result<bool, BrokerAway> {
        let uses = Uses { declares: true, ..Uses::default() };
        let mut differences = Topology::check(&uses, &self.broker.consuming).await?;
        let were_missing = differences.iter().filter(|found| matches!(found, Difference::Missing { .. })).count();
        if were_missing > 0 {
            tracing::error!(were_missing, "the broker has lost queues or exchanges; declaring them");
            metrics::counter!("topology_mended_total").increment(were_missing as u64);
            differences = Topology::required().apply(&self.broker.consuming).await?;
        }
        for difference in &differences {
            metrics::counter!("topology_differences_total").increment(1);
            tracing::error!(%difference, "the broker is not as rabbitmq/definitions.json says");
        }
        Ok(were_missing > 0)
    }

    /// Sets the alarm anew that looks at WeChat for an unpaid order whose callback may be lost: it was in a queue that
    /// is gone. Of an order that has two now the first one of a period looks.
    async fn look_again(&self, stop: &CancellationToken) -> Result<(), Interrupted> {
        let limit = self.pace.batch;
        let mut last = None;
        while !stop.is_cancelled() {
            let orders = sweep::unpaid(&self.db, last.as_ref(), limit.into()).await?;
            let after_ms = u64::try_from(self.pace.check.as_millis()).unwrap_or(u64::MAX);
            let alarm = |order_id| Message::OrderAlarm(OrderAlarm { order_id, alarm: Alarm::Check, after_ms });
            let known = orders.iter().filter_map(|order| OrderId::try_from(order.clone()).ok());
            let messages: Vec<Message> = known.map(alarm).collect();
            self.broker.publisher.publish_all(&messages).await?;
            if orders.len() < usize::from(limit) {
                break;
            }
            last = orders.into_iter().last();
        }
        Ok(())
    }

    /// Puts every overdue intent of a kind onto its queue, page by page.
    async fn sweep(&self, intent: Intent, pass: &Pass, stop: &CancellationToken) -> Result<(), Interrupted> {
        let limit = self.pace.batch;
        let mut last = None;
        let mut swept = 0;
        while !stop.is_cancelled() {
            let page = sweep::overdue(&self.db, intent, pass, last.as_ref(), limit.into()).await?;
            let mut messages = Vec::with_capacity(page.len());
            for overdue in &page {
                match intent.message(overdue) {
                    Ok(message) => messages.push(message),
                    // One row stops no other. It is marked with its page, so that it rests like what was swept.
                    Err(why) => {
                        let kind = intent.as_str();
                        metrics::counter!("reconcile_unreadable_total", "kind" => kind).increment(1);
                        tracing::error!(kind, %why, "skipped an intent whose row cannot be read");
                        sweep::report_unreadable(&self.db, intent, overdue, &why).await?;
                    }
                }
            }
            // Marked only when the broker has them: what is neither is swept again by the next pass.
            self.broker.publisher.publish_all(&messages).await?;
            sweep::mark(&self.db, intent, pass, &page).await?;
            metrics::counter!("reconcile_swept_total", "kind" => intent.as_str()).increment(page.len() as u64);
            swept += page.len();
            let was_last_page = page.len() < usize::from(limit);
            last = page.into_iter().last();
            if was_last_page {
                break;
            }
        }
        if swept > 0 {
            tracing::info!(kind = intent.as_str(), swept, "put back onto the queue");
        }
        Ok(())
    }
}
