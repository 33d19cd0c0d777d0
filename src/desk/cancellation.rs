//! Ending a session: everybody gets their money back, at a rate that WeChat takes.
//!
//! It keeps no record of its own: each round asks the books what is still missing and asks the workers for that.
//! Interrupted and started again, or run twice at once, it refunds nobody twice, because an order's refund for
//! this reason has one number for ever.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{
    broker::{PublishError, Publisher},
    cache::Cache,
    domain::{
        ids::{RefundId, ScheduleId},
        message::{Message, OrderCancel, RefundRequested},
        order::Status,
    },
    store::{
        self, Database, StoreError,
        cancellation::{Left, Progress},
    },
};

/// Orders read from the books at a time.
const PAGE: i64 = 500;
/// WeChat accepts so many refunds a second of one merchant (refund, rates).
pub const FASTEST: u32 = 150;
/// How long the workers may change nothing before it is said that they do not work.
const PATIENCE: Duration = Duration::from_secs(60);
/// WeChat's limit of a refund's reason, in bytes.
pub const LONGEST_REASON: usize = 80;
/// What customers read in WeChat beside their refund, unless an operator says it otherwise.
pub const REASON: &str = "课程取消";

/// Why a cancellation stopped before everything was asked for. Starting it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{asked} asked for, then: {error}; start it again to go on")]
    Broker { asked: i64, error: PublishError },
    #[error(
        "{0} orders stay as they are: do the workers `refunds` and `expiry` run? Everything is asked for; start it \
         again to see to it"
    )]
    NobodyWorks(i64),
}

/// Closes the session for new orders, and says so to the ingress; `false` when there is no such session.
pub async fn close(db: &Database, cache: Option<&Cache>, schedule: ScheduleId) -> Result<bool, StoreError> {
    if !store::cancellation::close(db, schedule).await? {
        return Ok(false);
    }
    if let Some(document) = store::schedule::find(db.pool(), schedule).await? {
        super::schedules::announce(cache, std::slice::from_ref(&document)).await;
    }
    if let Some(cache) = cache {
        // Without the cache it is forgotten by itself.
        let _ = cache.invalidate(&[schedule]).await;
    }
    Ok(true)
}

/// The cancellation of a session that is closed.
pub struct Cancellation<'a> {
    db: &'a Database,
    publisher: &'a Publisher,
    schedule: ScheduleId,
    reason: &'a str,
    /// Who wants it: `operator:…`
    requested_by: &'a str,
    pace: Interval,
    tell: fn(&str),
}

impl<'a> Cancellation<'a> {
    /// `rate`: orders asked for a second, at most [`FASTEST`]. `tell` hears how far it is.
    pub fn new(
        db: &'a Database,
        publisher: &'a Publisher,
        schedule: ScheduleId,
        reason: &'a str,
        requested_by: &'a str,
        rate: u32,
        tell: fn(&str),
    ) -> Self {
        let mut pace = interval(Duration::from_secs(1) / rate.clamp(1, FASTEST));
        // Lost time is not made up for: the rate is never exceeded.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { db, publisher, schedule, reason, requested_by, pace, tell }
    }

    /// Rounds until the books know a refund for every booking and the end of every other order. One may not be
    /// enough: who paid while being cancelled has a booking now.
    pub async fn ask_until_nothing_is_left(&mut self) -> Result<(), Interrupted> {
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
                    (self.tell)(&format!("{now_left} orders are still to be taken up by the workers"));
                }
                left = now_left;
            }
            if left > 0 && changed.elapsed() > PATIENCE {
                return Err(Interrupted::NobodyWorks(left));
            }
        }
        Ok(())
    }

    /// One round through all orders for which something must still be asked.
    async fn ask_for_all(&mut self, left: i64) -> Result<(), Interrupted> {
        let mut asked = 0;
        let mut after = 0;
        let mut told = Instant::now();
        loop {
            let page = store::cancellation::left(self.db.pool(), self.schedule, after, PAGE).await?;
            for order in &page {
                self.pace.tick().await;
                self.ask(order).await.map_err(|error| Interrupted::Broker { asked, error })?;
                asked += 1;
                after = order.arrival;
                if told.elapsed() >= Duration::from_secs(1) {
                    (self.tell)(&format!("{asked} of {left} asked for"));
                    told = Instant::now();
                }
            }
            if page.is_empty() {
                (self.tell)(&format!("{asked} of {left} asked for"));
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
                requested_by: self.requested_by.to_owned(),
                requested_at: None,
                request_id,
            })
        } else {
            Message::OrderCancel(OrderCancel {
                order_id: order.order_id.clone(),
                user_id: order.user_id.clone(),
                requested_by: Some(self.requested_by.to_owned()),
                request_id,
            })
        };
        self.publisher.publish_all(&[message]).await
    }

    /// Stays until every refund has WeChat's last word.
    pub async fn wait_for_refunds(&self) -> Result<(), Interrupted> {
        let mut told = None;
        loop {
            let open = self.progress().await?.refunds_open;
            if open == 0 {
                return Ok(());
            }
            if told.replace(open) != Some(open) {
                (self.tell)(&format!("{open} refunds wait for WeChat's last word"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        store::cancellation::progress(self.db.pool(), self.schedule).await
    }
}
