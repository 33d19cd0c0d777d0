//! The loop that every worker runs in.
//!
//! The unacknowledged message is the outbox: a handler commits its work, the loop publishes what
//! follows, each publish confirmed, and only then acknowledges. A crash anywhere redelivers; the
//! handler finds its own work done and derives the same follow-ups from what is stored.

use std::{collections::VecDeque, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use time::OffsetDateTime;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Broker, TraceParent,
    breaker::Breaker,
    envelope::{self, Marks, Outgoing, Parking},
};
use crate::domain::{
    message::{Message, Queue},
    retry::Class,
};

/// How a worker takes its messages.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Most messages that one call of the handler gets.
    pub batch: usize,
    /// Batches in hand at the same time. 1 keeps the arrival order.
    pub concurrent: usize,
}

/// One message with what a handler may need to know of its delivery.
#[derive(Debug, Clone)]
pub struct Received<M> {
    pub message: M,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub trace: Option<TraceParent>,
}

/// What became of one message.
#[derive(Debug)]
pub enum Verdict {
    /// Done, now or before. These messages follow from it.
    Done(Vec<Message>),
    /// Not yet; the class says how long to wait.
    Retry { class: Class, error: String },
    /// Never by itself: a person must look. `class` is a short stable label.
    Park { class: &'static str, error: String },
}

/// Why a whole batch could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A server is away. The batch stays in hand, in order, until a probe gets through.
    #[error("{0}")]
    Away(String),
    /// Ours to mend. The batch is split until the culprit alone parks.
    #[error("{0}")]
    Bug(String),
}

/// A worker: what it takes and what it does with a batch, in arrival order.
pub trait Handler: Send + Sync + 'static {
    type Message: TryFrom<Message, Error = Message> + Send + Sync;
    /// The worker's name in logs, metrics and dead letters.
    const NAME: &'static str;
    const SHAPE: Shape;

    /// Judges each message of the batch; the answer has one verdict per message, in the same order.
    fn handle(&self, batch: &[Received<Self::Message>]) -> impl Future<Output = Result<Vec<Verdict>, Fault>> + Send;
}

/// Runs `handler` on `queue` until `stop`: then takes no more, finishes what is in hand and returns.
pub async fn run<H: Handler>(broker: Broker, queue: Queue, handler: Arc<H>, stop: CancellationToken) {
    let work = Arc::new(Work { broker, queue, handler, breaker: Breaker::default(), stop });
    while !work.stop.is_cancelled() {
        let channel = tokio::select! {
            channel = work.broker.consuming.channel_when_possible() => channel,
            () = work.stop.cancelled() => return,
        };
        if let Err(error) = consume(&work, &channel).await {
            tracing::warn!(worker = H::NAME, queue = work.queue.name(), %error, "consuming was interrupted");
            // A queue that is missing, or a broker that closes channels as fast as they open.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Consumes on one channel until it breaks or the process stops.
async fn consume<H: Handler>(work: &Arc<Work<H>>, channel: &Channel) -> Result<(), lapin::Error> {
    let Shape { batch, concurrent } = H::SHAPE;
    let prefetch = u16::try_from(batch * concurrent * 2).unwrap_or(u16::MAX);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            work.queue.name().into(),
            lapin::types::ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let permits = Arc::new(Semaphore::new(concurrent));
    let mut in_hand = JoinSet::new();
    let ended = loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            break Ok(());
        };
        while in_hand.try_join_next().is_some() {}
        if work.breaker.is_open() {
            while in_hand.join_next().await.is_some() {}
            tokio::select! {
                () = tokio::time::sleep(work.breaker.pause()) => {}
                () = work.stop.cancelled() => break Ok(()),
            }
        }
        // Only one message probes whether the other side is back.
        let probing = work.breaker.is_open();
        let deliveries = tokio::select! {
            biased;
            () = work.stop.cancelled() => break Ok(()),
            deliveries = next_batch(&mut consumer, if probing { 1 } else { batch }) => deliveries?,
        };
        let settled = {
            let work = work.clone();
            async move {
                work.settle(deliveries).await;
                drop(permit);
            }
        };
        if probing {
            settled.await;
        } else {
            in_hand.spawn(settled);
        }
    };
    if work.stop.is_cancelled() {
        let _ = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
    }
    while in_hand.join_next().await.is_some() {}
    let _ = channel.close(200, "done".into()).await;
    ended
}

/// Waits for one delivery and takes along those that are there already.
async fn next_batch(consumer: &mut Consumer, most: usize) -> Result<Vec<Delivery>, lapin::Error> {
    let ended = || lapin::Error::from(lapin::ErrorKind::MissingHeartbeatError);
    let mut deliveries = vec![consumer.next().await.ok_or_else(ended)??];
    while deliveries.len() < most {
        match consumer.next().now_or_never() {
            Some(Some(delivery)) => deliveries.push(delivery?),
            Some(None) | None => break,
        }
    }
    Ok(deliveries)
}

struct Work<H> {
    broker: Broker,
    queue: Queue,
    handler: Arc<H>,
    breaker: Breaker,
    stop: CancellationToken,
}

/// The process is stopping: what is not acknowledged will be delivered again.
struct Stopping;

impl<H: Handler> Work<H> {
    /// Judges a batch, publishes what follows and acknowledges it.
    async fn settle(&self, deliveries: Vec<Delivery>) {
        let started = std::time::Instant::now();
        let mut readable = Vec::with_capacity(deliveries.len());
        let mut places = Vec::with_capacity(deliveries.len());
        let mut outgoing = Vec::new();
        for (place, delivery) in deliveries.iter().enumerate() {
            match self.read(delivery) {
                Ok(received) => {
                    readable.push(received);
                    places.push(place);
                }
                Err(error) => outgoing.push(self.parked(delivery, "unreadable", &error)),
            }
        }
        let Ok(verdicts) = self.judge(&readable).await else {
            return;
        };
        for ((verdict, received), place) in verdicts.into_iter().zip(&readable).zip(places) {
            self.follow(verdict, received, &deliveries[place], &mut outgoing);
        }
        if self.publish(outgoing).await.is_err() {
            return;
        }
        self.acknowledge(&deliveries).await;
        metrics::histogram!("messages_batch_seconds", "queue" => self.queue.name())
            .record(started.elapsed().as_secs_f64());
    }

    fn read(&self, delivery: &Delivery) -> Result<Received<H::Message>, String> {
        let marks = Marks::of(&delivery.properties);
        let message = Message::read(&marks.kind, &delivery.data).map_err(|unreadable| unreadable.to_string())?;
        let message = H::Message::try_from(message)
            .map_err(|other| format!("a {} does not belong in {}", other.kind(), self.queue.name()))?;
        if let Some(published_at) = marks.published_at {
            let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
            metrics::histogram!("messages_critical_seconds", "queue" => self.queue.name())
                .record(f64::from(u32::try_from(now.saturating_sub(published_at)).unwrap_or(u32::MAX)));
        }
        Ok(Received { message, attempt: marks.attempt, trace: marks.trace })
    }

    /// One verdict per message. Waits while a server is away; splits a batch that fails until the
    /// culprit stands alone.
    async fn judge(&self, batch: &[Received<H::Message>]) -> Result<Vec<Verdict>, Stopping> {
        let mut verdicts = Vec::with_capacity(batch.len());
        // Parts still to be judged, in arrival order.
        let mut parts = VecDeque::from([batch]);
        while let Some(part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            let handled = AssertUnwindSafe(self.handler.handle(part)).catch_unwind().await;
            let fault = match handled {
                Ok(Ok(judged)) if judged.len() == part.len() => {
                    if judged.iter().any(|verdict| matches!(verdict, Verdict::Done(_))) {
                        self.breaker.succeeded();
                    }
                    verdicts.extend(judged);
                    continue;
                }
                Ok(Ok(judged)) => Fault::Bug(format!("{} verdicts for {} messages", judged.len(), part.len())),
                Ok(Err(fault)) => fault,
                Err(panic) => Fault::Bug(panic_words(panic.as_ref())),
            };
            match fault {
                Fault::Away(server) => {
                    self.breaker.trip();
                    let pause = self.breaker.pause();
                    tracing::warn!(worker = H::NAME, server, ?pause, "waiting with the batch in hand");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => return Err(Stopping),
                    }
                    // The first message probes; the rest follows when it got through.
                    let (probe, rest) = part.split_at(1);
                    parts.push_front(rest);
                    parts.push_front(probe);
                }
                Fault::Bug(error) if part.len() == 1 => {
                    tracing::error!(worker = H::NAME, error, "parked: this is ours to mend");
                    verdicts.push(Verdict::Park { class: "bug", error });
                }
                Fault::Bug(error) => {
                    tracing::warn!(
                        worker = H::NAME,
                        error,
                        batch = part.len(),
                        "splitting the batch to find the culprit"
                    );
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push_front(right);
                    parts.push_front(left);
                }
            }
        }
        Ok(verdicts)
    }

    /// Turns a verdict into what is to be published.
    fn follow(
        &self,
        verdict: Verdict,
        received: &Received<H::Message>,
        delivery: &Delivery,
        outgoing: &mut Vec<Outgoing>,
    ) {
        let now = OffsetDateTime::now_utc();
        match verdict {
            Verdict::Done(follow_ups) => {
                self.count("done");
                outgoing
                    .extend(follow_ups.iter().map(|message| Outgoing::first(message, received.trace.as_ref(), now)));
            }
            Verdict::Retry { class, error } => match class.next(received.attempt) {
                Some(tier) => {
                    self.count("retried");
                    if matches!(class, Class::Unknown | Class::Busy) {
                        self.breaker.failed();
                    }
                    tracing::info!(
                        worker = H::NAME,
                        attempt = received.attempt,
                        wait = tier.name(),
                        error,
                        "will try again"
                    );
                    outgoing.push(envelope::retry_copy(
                        &delivery.properties,
                        &delivery.data,
                        self.queue,
                        tier,
                        class,
                        now,
                    ));
                }
                None => outgoing.push(self.parked(
                    delivery,
                    class.as_str(),
                    &format!("given up after {} attempts: {error}", received.attempt),
                )),
            },
            Verdict::Park { class, error } => outgoing.push(self.parked(delivery, class, &error)),
        }
    }

    fn parked(&self, delivery: &Delivery, class: &str, error: &str) -> Outgoing {
        self.count("parked");
        tracing::error!(worker = H::NAME, queue = self.queue.name(), class, error, "parked");
        let parking = Parking { worker: H::NAME, class, error };
        envelope::dead_copy(&delivery.properties, &delivery.data, self.queue, &parking, OffsetDateTime::now_utc())
    }

    /// Publishes all, side by side, as often as it takes: nothing is acknowledged before.
    async fn publish(&self, outgoing: Vec<Outgoing>) -> Result<(), Stopping> {
        let mut pending = outgoing;
        loop {
            let sends = pending.iter().map(|message| self.broker.publisher.send(message.clone()));
            let answers = futures_util::future::join_all(sends).await;
            let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
            let Some(error) = answers.into_iter().find_map(Result::err) else {
                return Ok(());
            };
            tracing::warn!(worker = H::NAME, %error, "a follow-up is not with the broker yet");
            let mut failed = failed.into_iter();
            pending.retain(|_| failed.next().unwrap_or(true));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
                () = self.stop.cancelled() => return Err(Stopping),
            }
        }
    }

    async fn acknowledge(&self, deliveries: &[Delivery]) {
        // One batch at a time means that everything before the last one is settled too.
        let multiple = H::SHAPE.concurrent == 1;
        let settled = if multiple { deliveries.split_at(deliveries.len().saturating_sub(1)).1 } else { deliveries };
        for delivery in settled {
            // `false` or an error: the channel is gone and the message will come again, to find its work done.
            if !matches!(delivery.acker.ack(BasicAckOptions { multiple }).await, Ok(true)) {
                self.count("acknowledged_too_late");
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("messages_total", "queue" => self.queue.name(), "outcome" => outcome).increment(1);
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("without words"))
}
