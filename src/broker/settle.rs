//! What becomes of a batch in hand: read, judged by the worker, followed by what it said, and acknowledged last.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use lapin::message::Delivery;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Broker,
    acks::Acks,
    breaker::{Breaker, Met, News, Victim},
    envelope::{self, Outgoing, Parking},
    handler::{Fault, Handler, Marked, Received, Verdict},
    link::ANSWERS_WITHIN,
    pulse::Pulse,
    watch,
};
use crate::{
    crash,
    domain::{
        message::Queue,
        retry::{Class, Tier},
        timeline::{EntryKind, Trace},
    },
    evidence::Mark,
    spans::{self, Kind, Span, TraceParent},
    trace,
};

/// What a consumer works with, on whatever channel.
pub(super) struct Work<H> {
    pub(super) broker: Broker,
    pub(super) queue: Queue,
    pub(super) handler: Arc<H>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) stop: CancellationToken,
}

/// Conflicts in a row after which a step is taken to fail for another reason than its neighbours.
const CONFLICTS_MAX: u32 = 10;
/// Longer with each.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// Far more than any step takes whose servers answer: it waits on a connection that is dead, though no reset told so.
/// To begin it again is as safe as a redelivery.
const STEP_WITHIN: Duration = Duration::from_secs(30);

/// Between two attempts to publish what the broker refused, longer with each.
const SHORTEST_PUBLISH_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PUBLISH_PAUSE: Duration = Duration::from_secs(10);

/// Failed probes after which a message makes room for one that passes beside it, or, when all that can be in hand have met
/// the outage, for one that has not been tried.
const PROBES_BESIDE_OTHERS: u32 = 3;
const PROBES_IN_FULL_HANDS: u32 = 5;

/// A message that met an outage, or the batch that it is in.
struct Plight<'a> {
    _victim: Victim<'a>,
    probes: u32,
    /// Messages that had passed when it began.
    passed: u64,
    /// Proof that the other side does the same for other messages.
    until: Option<Mark>,
}

/// The process is stopping: what is not acknowledged will be delivered again.
struct Stopping;

impl<H: Handler> Work<H> {
    /// Judges a batch, publishes what follows and acknowledges it.
    pub(super) async fn settle(&self, deliveries: Vec<Delivery>, acks: &Acks) {
        let started = Instant::now();
        let oldest_due = deliveries.iter().filter_map(|delivery| envelope::due_at(&delivery.properties)).min();
        let _in_hand = self.pulse.take(deliveries.len(), oldest_due);
        let mut readable = Vec::with_capacity(deliveries.len());
        let mut places = Vec::with_capacity(deliveries.len());
        let mut outgoing = Vec::new();
        let mut canary = false;
        for (place, delivery) in deliveries.iter().enumerate() {
            if watch::is_canary(&delivery.properties) {
                canary = true;
                continue;
            }
            match self.read(delivery) {
                Ok(received) => {
                    readable.push(received);
                    places.push(place);
                }
                Err(error) if envelope::is_newer(&delivery.properties) => {
                    outgoing.push(self.left_to_newer(delivery, &error));
                }
                Err(error) => outgoing.push(self.parked(delivery, "unreadable", &error)),
            }
        }
        // They end with the acknowledgement.
        let (mut steps, batch) = self.begin_spans(&readable);
        let context = batch.as_ref().or(steps.first()).map(Span::context);
        let judged = self.judge(&readable);
        let judged = match context {
            Some(context) => spans::within(context, judged).await,
            None => judged.await,
        };
        let Ok(verdicts) = judged else {
            return;
        };
        for (((verdict, received), step), place) in verdicts.into_iter().zip(&readable).zip(&mut steps).zip(places) {
            self.note(&verdict, received, started);
            self.follow(verdict, received, step, &deliveries[place], &mut outgoing);
        }
        if crash::without("follow_ups_again") && deliveries.iter().any(|delivery| delivery.redelivered) {
            outgoing.clear();
        }
        if crash::without("publish_before_ack") {
            acks.finished(deliveries).await;
            return drop(self.publish(outgoing).await);
        }
        if self.publish(outgoing).await.is_err() {
            return;
        }
        acks.finished(deliveries).await;
        if canary {
            let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
            metrics::gauge!("canary_seen_timestamp_seconds", "queue" => self.queue.name()).set(now);
        }
        metrics::histogram!("messages_batch_seconds", "queue" => self.queue.name())
            .record(started.elapsed().as_secs_f64());
    }

    fn read(&self, delivery: &Delivery) -> Result<Received<H::Message>, String> {
        let (marks, message) = envelope::read(&delivery.properties, &delivery.data);
        let message = message.map_err(|unreadable| unreadable.to_string())?;
        let trace =
            marks.trace.unwrap_or_else(|| message.order().map_or_else(TraceParent::fresh, TraceParent::of_order));
        let marked = trace::is_kept().then(|| Marked::of(&message, marks.published_at)).flatten();
        let message = H::Message::try_from(message)
            .map_err(|other| format!("a {} does not belong in {}", other.kind(), self.queue.name()))?;
        // Not since it was published: a timer waits in its delay queue as long as it is meant to.
        if let Some(due_at) = envelope::due_at(&delivery.properties) {
            let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
            metrics::histogram!("messages_critical_seconds", "queue" => self.queue.name())
                .record(f64::from(u32::try_from(now.saturating_sub(due_at)).unwrap_or(u32::MAX)));
        }
        Ok(Received { message, attempt: marks.attempt, trace, marked })
    }

    /// One for each message, in its own trace; for several together also one that is linked with each of them.
    fn begin_spans(&self, batch: &[Received<H::Message>]) -> (Vec<Span>, Option<Span>) {
        let queue = self.queue.name();
        let whole = (batch.len() > 1).then(|| Span::of_batch("handle", &queue, batch.iter().map(|one| one.trace)));
        let step = |received: &Received<H::Message>| {
            let mut step = Span::begin(Kind::Consumer, "process", &queue, received.trace);
            step.note("messaging.system", "rabbitmq");
            step.note("holdfast.attempt", received.attempt);
            if let Some(marked) = &received.marked {
                step.note("holdfast.message", marked.kind);
                step.note("holdfast.order_id", &marked.order);
            }
            step.links(whole.as_ref().map(Span::context));
            step
        };
        (batch.iter().map(step).collect(), whole)
    }

    /// One verdict per message. Waits while a server is away; splits a batch that fails until the
    /// culprit stands alone.
    async fn judge(&self, batch: &[Received<H::Message>]) -> Result<Vec<Verdict>, Stopping> {
        let mut verdicts = Vec::with_capacity(batch.len());
        // Parts still to be judged, in arrival order.
        let mut parts = VecDeque::from([batch]);
        let mut turn = None;
        let mut conflicts = 0;
        let mut plight: Option<Plight<'_>> = None;
        let met = if self.breaker.is_open() { Met::Fresh } else { Met::InHand };
        while let Some(part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            let handled = timeout(STEP_WITHIN, AssertUnwindSafe(self.handler.handle(part)).catch_unwind()).await;
            let fault = match handled.unwrap_or_else(|_| Ok(Err(Fault::Away(format!("no end within {STEP_WITHIN:?}")))))
            {
                Ok(Ok(judged)) if judged.len() == part.len() => {
                    self.heed(&judged, plight.take().is_some(), met == Met::Fresh);
                    self.tell_breaker();
                    verdicts.extend(judged);
                    turn = None;
                    conflicts = 0;
                    continue;
                }
                Ok(Ok(judged)) => Fault::Bug(format!("{} verdicts for {} messages", judged.len(), part.len())),
                Ok(Err(Fault::Conflict(words))) if conflicts == CONFLICTS_MAX => Fault::Bug(words),
                Ok(Err(Fault::Contention(words))) if conflicts == CONFLICTS_MAX => Fault::Away(words),
                Ok(Err(fault)) => fault,
                Err(panic) => Fault::Bug(panic_words(panic.as_ref())),
            };
            let until = if let Fault::Barred { until, .. } = &fault { Some(until.clone()) } else { None };
            match fault {
                Fault::Away(reason) | Fault::Barred { reason, .. } => {
                    conflicts = 0;
                    drop(turn.take());
                    if let Some(class) = plight.as_mut().and_then(|plight| self.set_aside(plight)) {
                        plight = None;
                        verdicts.push(Verdict::Retry { class, error: reason });
                        continue;
                    }
                    self.trip(&reason, until.as_ref(), if plight.is_some() { Met::Again } else { met });
                    plight.get_or_insert_with(|| Plight {
                        _victim: self.breaker.victim(),
                        probes: 0,
                        passed: self.breaker.passed(),
                        until,
                    });
                    turn = tokio::select! {
                        turn = self.breaker.turn() => Some(turn),
                        () = self.stop.cancelled() => return Err(Stopping),
                    };
                    // The first message probes; the rest follows when it got through.
                    let (probe, rest) = part.split_at(if self.breaker.is_open() { 1 } else { part.len() });
                    parts.push_front(rest);
                    parts.push_front(probe);
                }
                Fault::Conflict(words) | Fault::Contention(words) => {
                    tracing::info!(worker = H::NAME, words, "trying the batch again");
                    conflicts += 1;
                    tokio::time::sleep(CONFLICT_PAUSE * conflicts).await;
                    parts.push_front(part);
                }
                Fault::Newer(error) if part.len() == 1 => {
                    verdicts.push(Verdict::Retry { class: Class::Newer, error });
                    (plight, conflicts) = (None, 0);
                }
                Fault::Bug(error) if part.len() == 1 => {
                    tracing::error!(worker = H::NAME, error, "parked: this is ours to mend");
                    verdicts.push(Verdict::Park { class: "bug", error });
                    (plight, conflicts) = (None, 0);
                }
                Fault::Bug(error) | Fault::Newer(error) => {
                    tracing::warn!(worker = H::NAME, error, batch = part.len(), "splitting it to find the culprit");
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push_front(right);
                    parts.push_front(left);
                }
            }
        }
        Ok(verdicts)
    }

    /// Whether a message that probed in vain is no longer to be waited for, and what it is then. Only where messages come
    /// one by one: a batch keeps its order.
    fn set_aside(&self, plight: &mut Plight<'_>) -> Option<Class> {
        plight.probes += 1;
        if H::SHAPE.batch > 1 {
            return None;
        }
        if let Some(until) = &plight.until {
            // The same was done for another message since, and is still refused for this one.
            if until.is_passed() {
                return Some(Class::Singled);
            }
        } else if plight.probes >= PROBES_BESIDE_OTHERS && self.breaker.passed() > plight.passed {
            return Some(Class::Outage);
        }
        let hands_are_full = self.breaker.victims() >= H::SHAPE.concurrent;
        (hands_are_full && plight.probes >= PROBES_IN_FULL_HANDS).then_some(Class::Outage)
    }

    fn trip(&self, reason: &str, until: Option<&Mark>, met: Met) {
        let queue = self.queue.name();
        match self.breaker.trip(reason, until, met) {
            News::Opened => {
                metrics::counter!("outages_total", "queue" => queue.clone()).increment(1);
                tracing::error!(
                    worker = H::NAME,
                    queue,
                    reason,
                    "stopped taking messages; one at a time probes until it passes"
                );
            }
            News::StillOpen(lasts) => {
                let seconds = lasts.as_secs();
                tracing::warn!(
                    worker = H::NAME,
                    queue,
                    reason,
                    seconds,
                    "still taking no messages; one at a time probes"
                );
            }
            News::None => tracing::debug!(worker = H::NAME, queue, reason, "a probe failed"),
        }
        self.tell_breaker();
    }

    /// Any answer of the other side, a refusal too, shows that it is there; silence and "slow down" do not.
    fn heed(&self, judged: &[Verdict], is_victim: bool, is_fresh: bool) {
        let silent = |verdict: &&Verdict| matches!(verdict, Verdict::Retry { class: Class::Unknown | Class::Busy, .. });
        let silences = judged.iter().filter(silent).count();
        if silences < judged.len()
            && let Some(lasted) = self.breaker.succeeded(is_victim)
        {
            let (queue, seconds) = (self.queue.name(), lasted.as_secs());
            tracing::info!(worker = H::NAME, queue, seconds, "takes messages again");
        }
        for _ in 0..silences {
            self.breaker.failed(is_fresh);
        }
    }

    /// Leaves a trace of the message at its order.
    fn note(&self, verdict: &Verdict, received: &Received<H::Message>, started: Instant) {
        let Some(marked) = &received.marked else { return };
        let (outcome, class, error) = match verdict {
            Verdict::Done(_) => ("done", None, None),
            Verdict::Retry { class, error } if class.next(received.attempt).is_some() => {
                ("retried", Some(class.as_str()), Some(error))
            }
            Verdict::Retry { class, error } => ("parked", Some(class.as_str()), Some(error)),
            Verdict::Park { class, error } => ("parked", Some(*class), Some(error)),
        };
        let details = serde_json::json!({
            "queue": self.queue.name(), "attempt": received.attempt, "class": class, "error": error,
            "key": marked.key, "sent_at": marked.sent_at,
        });
        trace::note(Trace {
            who: Some(format!("worker:{}", H::NAME)),
            details: Some(details),
            ..trace::took(marked.order.as_str(), EntryKind::Message, marked.kind, outcome, started)
        });
    }

    /// Turns a verdict into what is to be published.
    fn follow(
        &self,
        verdict: Verdict,
        received: &Received<H::Message>,
        step: &mut Span,
        delivery: &Delivery,
        outgoing: &mut Vec<Outgoing>,
    ) {
        let now = OffsetDateTime::now_utc();
        let context = step.context();
        match verdict {
            Verdict::Done(follow_ups) => {
                self.count("done");
                step.note("holdfast.outcome", "done");
                outgoing.extend(follow_ups.iter().map(|message| Outgoing::first(message, context, now)));
            }
            Verdict::Retry { class, error } => match class.next(received.attempt) {
                Some(tier) => {
                    self.count("retried");
                    step.note("holdfast.outcome", "retried");
                    step.failed(class.as_str());
                    tracing::info!(
                        worker = H::NAME,
                        attempt = received.attempt,
                        wait = tier.name(),
                        error,
                        "will try again"
                    );
                    let copy = envelope::retry_copy(&delivery.properties, &delivery.data, self.queue, tier, class, now);
                    outgoing.push(copy.following(context));
                }
                None => {
                    step.failed(class.as_str());
                    let error = format!("given up after {} attempts: {error}", received.attempt);
                    outgoing.push(self.parked(delivery, class.as_str(), &error).following(context));
                }
            },
            Verdict::Park { class, error } => {
                step.failed(class);
                outgoing.push(self.parked(delivery, class, &error).following(context));
            }
        }
    }

    /// A copy for a worker of the release that wrote the message; this release knows less.
    fn left_to_newer(&self, delivery: &Delivery, error: &str) -> Outgoing {
        self.count("retried");
        tracing::info!(worker = H::NAME, queue = self.queue.name(), error, "left a message to a newer release");
        let attempt = envelope::Marks::of(&delivery.properties).attempt;
        let tier = Class::Newer.next(attempt).unwrap_or(Tier::H1);
        let now = OffsetDateTime::now_utc();
        envelope::retry_copy(&delivery.properties, &delivery.data, self.queue, tier, Class::Newer, now)
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
        let mut pause = SHORTEST_PUBLISH_PAUSE;
        loop {
            let sends = pending.iter().map(|message| self.broker.publisher.send_patiently(message.clone()));
            let answers = tokio::select! {
                answers = futures_util::future::join_all(sends) => answers,
                () = self.stopped_long_ago() => return Err(Stopping),
            };
            let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
            let Some(error) = answers.into_iter().find_map(Result::err) else {
                return Ok(());
            };
            if pause == SHORTEST_PUBLISH_PAUSE {
                tracing::warn!(worker = H::NAME, %error, "the broker refuses a follow-up; publishing it again until it is taken");
            }
            let mut failed = failed.into_iter();
            pending.retain(|_| failed.next().unwrap_or(true));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Err(Stopping),
            }
            pause = (pause * 2).min(LONGEST_PUBLISH_PAUSE);
        }
    }

    /// The process was told to stop, and a broker that answers would have confirmed since.
    async fn stopped_long_ago(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(ANSWERS_WITHIN).await;
    }

    fn tell_breaker(&self) {
        let open = if self.breaker.is_open() { 1.0 } else { 0.0 };
        metrics::gauge!("breaker_open", "queue" => self.queue.name()).set(open);
    }

    fn count(&self, outcome: &'static str) {
        self.pulse.count(outcome);
        metrics::counter!("messages_total", "queue" => self.queue.name(), "outcome" => outcome).increment(1);
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("without words"))
}
