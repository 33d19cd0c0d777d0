//! The loop that every worker runs in.
//!
//! The unacknowledged message is the outbox: a handler commits its work, the loop publishes what
//! follows, each publish confirmed, and only then acknowledges. A crash anywhere redelivers; the
//! handler finds its own work done and derives the same follow-ups from what is stored. What becomes of one batch is in `settle`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future, stream::FusedStream};
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Broker,
    acks::Acks,
    breaker::Breaker,
    link::{IDLE_LOOK, answered, close},
    permissions::is_want_of_right,
    settle::Work,
    topology::{Difference, Right},
};
use crate::domain::message::Queue;

pub use super::handler::{Fault, Handler, Received, Shape, Verdict};

/// Between two attempts to consume, longer while they fail at once: a queue that is missing, or a wire that breaks again
/// and again. Each attempt that got messages costs them one of their deliveries (`x-delivery-limit` is 20), and a
/// bad wire must not park what is good: with these, that takes it more than a minute.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a consumer asks the broker whether it is still known as one.
const FORGOTTEN_LOOK: Duration = Duration::from_secs(5);

/// Runs `handler` on `queue` until `stop`: then takes no more, finishes what is in hand and returns.
///
/// # Errors
/// The account has no right to read the queue, found at the first attempt. A right that is taken away later is an outage:
/// the consumer goes on trying.
pub async fn run<H: Handler>(
    broker: Broker,
    queue: Queue,
    handler: Arc<H>,
    stop: CancellationToken,
) -> Result<(), Difference> {
    let breaker = Arc::new(Breaker::default());
    let pulse = broker.pulses.begin(queue.name(), breaker.clone());
    let work = Arc::new(Work { broker, queue, handler, breaker, pulse, stop });
    let mut pause = SHORTEST_PAUSE;
    let mut has_consumed = false;
    while !work.stop.is_cancelled() {
        let channel = tokio::select! {
            channel = work.broker.consuming.channel_when_possible() => channel,
            () = work.stop.cancelled() => return Ok(()),
        };
        let began = Instant::now();
        if let Err(error) = consume(&work, &channel, &mut has_consumed).await {
            if !has_consumed && matches!(&error, Interruption::Channel(error) if is_want_of_right(error)) {
                let account = work.broker.consuming.account();
                return Err(Difference::NoRight { account, right: Right::Read, what: "queue", name: queue.name() });
            }
            tracing::warn!(worker = H::NAME, queue = work.queue.name(), %error, "consuming was interrupted");
            pause = if began.elapsed() > LONGEST_PAUSE { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = work.stop.cancelled() => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Consumes on one channel until it breaks or the process stops; returns when nothing is in hand any more.
async fn consume<H: Handler>(
    work: &Arc<Work<H>>,
    channel: &Channel,
    has_consumed: &mut bool,
) -> Result<(), Interruption> {
    let Shape { batch, concurrent } = H::SHAPE;
    let prefetch = u16::try_from(batch * concurrent * 2).unwrap_or(u16::MAX);
    answered(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let consumer = channel.basic_consume(
        work.queue.name().into(),
        lapin::types::ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = answered(consumer).await?;
    *has_consumed = true;
    let tag = consumer.tag();
    // What was prefetched on a channel that has broken since will come again. Fused, as its end may be met while a
    // batch is gathered, and must be met again: lapin's own stream would stay silent then.
    let mut fresh =
        consumer.filter(|next| future::ready(!next.as_ref().is_ok_and(|delivery| delivery.acker.poisoned()))).fuse();
    let acks = Arc::new(Acks::new(work.queue, concurrent == 1, work.stop.clone()));
    let mut in_hand = JoinSet::new();
    let ended = tokio::select! {
        ended = take(work, &acks, &mut fresh, &mut in_hand) => ended,
        () = broken(channel) => Err(Interruption::Broken),
        () = forgotten(channel, work.queue) => Err(Interruption::Forgotten),
        () = work.stop.cancelled() => Ok(()),
    };
    if work.stop.is_cancelled() {
        let _ = answered(channel.basic_cancel(tag, BasicCancelOptions::default())).await;
    }
    // Also after an interruption: what is in hand will be delivered again, and twice at once helps nobody.
    while in_hand.join_next().await.is_some() {}
    acks.send_kept().await;
    close(channel).await;
    ended
}

/// Returns when the channel is broken. Mostly the consumer tells; one that was just being made may stay silent.
async fn broken(channel: &Channel) {
    while channel.status().connected() {
        tokio::time::sleep(IDLE_LOOK).await;
    }
}

/// Returns after two checks in a row in which the broker reports no consumer of the queue or does not reply on this channel.
/// After a queue was deleted and declared again, consumers on open channels received neither messages nor a cancellation.
/// The cause, in RabbitMQ or in lapin, is unknown.
async fn forgotten(channel: &Channel, queue: Queue) {
    let mut doubts = 0;
    while doubts < 2 {
        tokio::time::sleep(FORGOTTEN_LOOK).await;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = answered(channel.queue_declare(queue.name().into(), options, FieldTable::default())).await;
        // During a change of leader a queue reports no messages and no consumers, so one such reply proves nothing.
        doubts = if found.is_ok_and(|found| found.consumer_count() > 0) { 0 } else { doubts + 1 };
    }
}

/// Takes batches off the consumer and settles them, as many at a time as the worker may; never returns in peace.
async fn take<H: Handler>(
    work: &Arc<Work<H>>,
    acks: &Arc<Acks>,
    fresh: &mut (impl FusedStream<Item = Result<Delivery, lapin::Error>> + Unpin),
    in_hand: &mut JoinSet<()>,
) -> Result<(), Interruption> {
    let Shape { batch, concurrent } = H::SHAPE;
    loop {
        loop {
            let changed = work.breaker.changed();
            // Beside those that met an outage one fresh message at a time shows whether the outage is everybody's.
            let open = work.breaker.is_open();
            let room = if open { concurrent.min(work.breaker.victims() + 1) } else { concurrent };
            if in_hand.len() < room {
                break;
            }
            tokio::select! {
                // One that panicked has acknowledged nothing, and must not be covered by the next one's acknowledgement.
                ended = in_hand.join_next() => ended.unwrap_or(Ok(()))?,
                () = changed => {}
            }
        }
        let most = if work.breaker.is_open() {
            work.breaker.fresh_turn().await;
            1
        } else {
            batch
        };
        let deliveries = next_batch(fresh, most).await?;
        acks.taken(&deliveries);
        let (work, acks) = (work.clone(), acks.clone());
        in_hand.spawn(async move { work.settle(deliveries, &acks).await });
    }
}

/// Why consuming on a channel ended before the process was told to stop.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Channel(#[from] lapin::Error),
    #[error("the channel is broken")]
    Broken,
    #[error("the broker has forgotten the consumer")]
    Forgotten,
    #[error("the broker cancelled the consumer")]
    Cancelled,
    #[error("a batch was dropped: {0}")]
    Dropped(#[from] tokio::task::JoinError),
}

/// Waits for one delivery and takes along those that are there already.
async fn next_batch(
    fresh: &mut (impl FusedStream<Item = Result<Delivery, lapin::Error>> + Unpin),
    most: usize,
) -> Result<Vec<Delivery>, Interruption> {
    let mut deliveries = vec![fresh.next().await.ok_or(Interruption::Cancelled)??];
    while deliveries.len() < most {
        match fresh.next().now_or_never() {
            Some(Some(delivery)) => deliveries.push(delivery?),
            Some(None) | None => break,
        }
    }
    Ok(deliveries)
}
