//! Carries cancelled sessions to their end: asks for the refund of every booking and the cancellation of every other order,
//! in bounded pages, through the ordinary queues.
//!
//! The intent and its place in the round are a row (`schedule_cancellations`), so that any process goes on where one was
//! killed. Asking twice changes nothing: an order's refund for this reason has one number for ever.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::{PublishError, Publisher},
    domain::{
        ids::{RefundId, system_request},
        message::{Message, OrderCancel, RefundRequested},
        order::Status,
    },
    store::{
        Database, StoreError,
        cancellation::{self, Left, Open},
        leader::Candidate,
    },
};

/// A cancellation's rate is orders per second: one page a second.
const PAGE_EVERY: Duration = Duration::from_secs(1);
/// Orders asked for per page, all cancellations together: WeChat accepts 150 refunds a second of one merchant.
const PAGE: i64 = 150;
/// After a whole round the workers need a while; asking again sooner would only lengthen their queues.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Sweeps cancellations.
pub struct Cancellations {
    pub db: Database,
    pub publisher: Publisher,
}

/// Why a page has to wait for the next second.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Cancellations {
    /// Works each second, while this process leads, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(PAGE_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut candidate = Candidate::new(self.db.clone(), "cancellations");
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => break,
            }
            if !candidate.leads().await.unwrap_or(false) {
                continue;
            }
            tokio::select! {
                carried_on = self.pages() => if let Err(error) = carried_on {
                    tracing::warn!(%error, "failed to carry cancellations on; the next second will retry");
                },
                // A page that is published and not marked is published again.
                () = stop.cancelled() => break,
            }
        }
        candidate.resign().await;
    }

    /// One page of each unfinished cancellation, as far as the common rate goes.
    async fn pages(&self) -> Result<(), Interrupted> {
        let mut budget = PAGE;
        let open = cancellation::open(self.db.pool(), ASK_AGAIN_AFTER, PAGE).await?;
        metrics::gauge!("schedule_cancellations_open").set(open.len() as f64);
        for open in open {
            if budget == 0 {
                break;
            }
            budget -= self.page(&open, budget.min(open.rate.into())).await?;
        }
        Ok(())
    }

    /// One page; how many orders were asked for.
    async fn page(&self, open: &Open, most: i64) -> Result<i64, Interrupted> {
        let page = cancellation::left(self.db.pool(), open.schedule_id, open.asked_through, most).await?;
        let Some(last) = page.last() else {
            if cancellation::finish(&self.db, open.schedule_id).await? {
                tracing::info!(schedule = %open.schedule_id, "finished the cancellation of a session");
            } else if open.may_ask_again {
                cancellation::mark_asked(&self.db, open.schedule_id, 0).await?;
            }
            return Ok(0);
        };
        let messages: Vec<Message> = page.iter().map(|order| asking(open, order)).collect();
        self.publisher.publish_all(&messages).await?;
        cancellation::mark_asked(&self.db, open.schedule_id, last.arrival).await?;
        Ok(i64::try_from(messages.len()).unwrap_or(PAGE))
    }
}

fn asking(open: &Open, order: &Left) -> Message {
    let request_id = system_request("schedule-cancel", Uuid::now_v7());
    if order.status == Status::Confirmed {
        Message::RefundRequested(RefundRequested {
            refund_id: RefundId::of_cancelled_session(&order.order_id),
            order_id: order.order_id.clone(),
            amount_fen: None,
            reason: open.reason.clone(),
            requested_by: open.requested_by.clone(),
            requested_at: None,
            request_id,
        })
    } else {
        Message::OrderCancel(OrderCancel {
            order_id: order.order_id.clone(),
            user_id: order.user_id.clone(),
            requested_by: Some(open.requested_by.clone()),
            request_id,
        })
    }
}
