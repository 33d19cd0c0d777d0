//! Publishing, confirmed: a message is with the broker, or we know that it may not be.
//!
//! One task publishes on one channel (tasks that share a channel can be given each other's confirms),
//! in windows: everything that is waiting goes out, then every confirm is awaited, then the window is
//! settled. A `basic.return` may be reported with the confirm of any neighbour in the window, so it is matched by
//! where it went and its `message_id`, once every confirm is in.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lapin::{
    Channel, Confirmation, ErrorKind,
    message::Delivery,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::AMQPErrorKind,
};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Link,
    envelope::Outgoing,
    link::{IDLE_LOOK, answered, close},
};
use crate::{
    crash,
    domain::message::Message,
    spans::{self, Kind, Span, TraceParent},
};

/// Publishes in flight on one channel. More gives little: confirms of a quorum queue come in groups anyway.
const WINDOW: usize = 256;
/// Channels side by side. A queue always takes the same one, which keeps its messages in order.
const LANES: usize = 2;

/// Sends messages and waits for the broker's word. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    lanes: Arc<[mpsc::Sender<Job>]>,
    link: Arc<Link>,
    confirm_within: Duration,
}

/// Why a message is not known to be with the broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No confirm within the time limit: it may or may not be there. Publishing again is safe.
    #[error("the broker did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// The broker refused it: its queue is full or missing, or it takes nothing from anybody.
    #[error("the broker refused it: {0}")]
    Refused(&'static str),
}

impl PublishError {
    /// The reason in one word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Refused(_) => "refused",
        }
    }
}

struct Job {
    outgoing: Outgoing,
    done: oneshot::Sender<Result<(), PublishError>>,
}

impl Job {
    /// The caller may have stopped waiting; then the message is there or not all the same, which is harmless.
    fn answer(self, answer: Result<(), PublishError>) {
        let _ = self.done.send(answer);
    }
}

impl Publisher {
    /// Starts the publishing tasks. They end when the last clone is dropped.
    pub(super) fn start(link: Link, confirm_within: Duration) -> Self {
        let link = Arc::new(link);
        let lanes = (0..LANES)
            .map(|_| {
                let (jobs, waiting) = mpsc::channel(4 * WINDOW);
                tokio::spawn(publish_in_windows(link.clone(), waiting, confirm_within));
                jobs
            })
            .collect();
        Self { lanes, link, confirm_within }
    }

    /// Publishes to the message's own queue; done when the broker has it safely.
    ///
    /// # Errors
    /// See [`PublishError`]: in each case the caller may publish the same message again.
    pub async fn publish(&self, message: &Message) -> Result<(), PublishError> {
        let outgoing = Outgoing::first(message, spans::context_about(message.order()), OffsetDateTime::now_utc());
        if crash::without("confirm") {
            let publisher = self.clone();
            tokio::spawn(async move { publisher.send(outgoing).await });
            return Ok(());
        }
        self.send(outgoing).await
    }

    /// Publishes all, side by side, each to its own queue; done when the broker has every one safely.
    ///
    /// # Errors
    /// The first of them; the other messages may be there. The caller may publish all of them again.
    pub async fn publish_all(&self, messages: &[Message]) -> Result<(), PublishError> {
        let now = OffsetDateTime::now_utc();
        // Each into its own order's trace, whoever asks for all of them.
        let context = |message: &Message| message.order().map_or_else(TraceParent::fresh, TraceParent::of_order);
        let sends = messages.iter().map(|message| self.send(Outgoing::first(message, context(message), now)));
        join_all(sends).await.into_iter().collect()
    }

    /// Publishes one prepared message; gives up after the time limit.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        self.traced(outgoing, Some(self.confirm_within)).await
    }

    /// Publishes one prepared message, however long the broker takes: one that is slow must not be given the same again
    /// and again.
    ///
    /// # Errors
    /// The broker refused it.
    pub(super) async fn send_patiently(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        self.traced(outgoing, None).await
    }

    async fn traced(&self, outgoing: Outgoing, limit: Option<Duration>) -> Result<(), PublishError> {
        let trace = spans::are_kept().then(|| outgoing.trace()).flatten();
        let Some(trace) = trace else { return self.confirmed(outgoing, limit).await };
        let mut span = Span::begin(Kind::Producer, "send", outgoing.place(), trace);
        span.note("messaging.system", "rabbitmq");
        span.note("holdfast.message", outgoing.kind());
        let sent = self.confirmed(outgoing.following(span.context()), limit).await;
        if let Err(error) = &sent {
            span.failed(error.label());
        }
        sent
    }

    async fn confirmed(&self, outgoing: Outgoing, limit: Option<Duration>) -> Result<(), PublishError> {
        // It would not even read the message: whoever asks is told at once, not after the limit on a confirm.
        if self.link.is_blocked() {
            return Err(PublishError::Refused("it is short of memory or disk"));
        }
        let lane = outgoing.routing_key.as_str().bytes().fold(0usize, |sum, b| sum.wrapping_add(usize::from(b)));
        let (done, settled) = oneshot::channel();
        let job = Job { outgoing, done };
        let asked = async {
            if self.lanes[lane % LANES].send(job).await.is_err() {
                return Err(PublishError::Refused("the process is stopping"));
            }
            settled.await.unwrap_or(Err(PublishError::Refused("the process is stopping")))
        };
        match limit {
            Some(limit) => timeout(limit, asked).await.unwrap_or(Err(PublishError::Unconfirmed(limit))),
            None => asked.await,
        }
    }

    /// Whether the connection is up and not blocked by an alarm.
    pub fn is_ready(&self) -> bool {
        self.link.is_up()
    }

    /// Closes the connection once nothing more will be published.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

async fn publish_in_windows(link: Arc<Link>, mut waiting: mpsc::Receiver<Job>, confirm_within: Duration) {
    let mut channel = confirming_channel(&link).await;
    let mut window = Vec::with_capacity(WINDOW);
    let mut patience = Patience::new(confirm_within);
    loop {
        tokio::select! {
            taken = waiting.recv_many(&mut window, WINDOW) => if taken == 0 { break },
            // With nothing to publish, a lost connection would stay lost and the process unready.
            () = tokio::time::sleep(IDLE_LOOK) => {
                if !channel.status().connected() {
                    channel = confirming_channel(&link).await;
                }
                continue;
            }
        }
        let mut one_by_one = false;
        loop {
            // A caller that has given up has said so to its own caller: its message must not appear later.
            window.retain(|job| !job.done.is_closed());
            if window.is_empty() {
                break;
            }
            let later = window.split_off(if one_by_one { 1 } else { window.len() });
            let size = window.len();
            let began = Instant::now();
            let published = timeout(patience.now, publish_window(&channel, &mut window)).await;
            match &published {
                Ok(Ok(_)) => patience.learn(Some(began.elapsed())),
                // A connection that broke says nothing of how long the broker takes.
                Ok(Err(_)) => {}
                Err(_) => patience.learn(None),
            }
            match published {
                Ok(Ok(Words::AllTaken)) => {}
                // A channel that was refused once can be refused for ever: RabbitMQ keeps "full" with the channel,
                // and forgets to take it back when the queue's leader has died.
                Ok(Ok(Words::SomeRefused)) => {
                    close(&channel).await;
                    channel = confirming_channel(&link).await;
                }
                Ok(Err(error)) if is_refusal(&error) => {
                    tracing::warn!(%error, size, "the broker closed the channel over a publish");
                    // It does not say which. Alone, the culprit gives itself away and holds nobody up.
                    if let (1, Some(culprit)) = (size, window.pop()) {
                        culprit
                            .answer(Err(PublishError::Refused("its exchange is missing, or it may not be published")));
                    }
                    one_by_one = size > 1;
                    channel = confirming_channel(&link).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, size, "publishing was interrupted; the unconfirmed are published again");
                    channel = confirming_channel(&link).await;
                }
                Err(_) => {
                    tracing::warn!(size, "the broker does not confirm; the unconfirmed are published again");
                    channel = confirming_channel(&link).await;
                }
            }
            window.extend(later);
        }
    }
}

/// How long a window is waited for. A broker that is slow is given longer each time, since what it has not confirmed it may
/// have all the same: each window that is published again adds copies to its work.
struct Patience {
    least: Duration,
    now: Duration,
}

impl Patience {
    /// Beyond the broker's heartbeat: by then a connection that is dead is known to be.
    const MOST: Duration = Duration::from_secs(60);

    fn new(least: Duration) -> Self {
        Self { least, now: least }
    }

    /// From what the last window took; `None` when it was given up.
    fn learn(&mut self, took: Option<Duration>) {
        self.now = took.map_or(self.now * 2, |took| took * 2).clamp(self.least, Self::MOST.max(self.least));
    }
}

/// Whether the broker closed the channel because of one publish, and not because it goes away.
fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if matches!(refusal.kind(), AMQPErrorKind::Soft(_)))
}

async fn confirming_channel(link: &Link) -> Channel {
    loop {
        let channel = link.channel_when_possible().await;
        match answered(channel.confirm_select(ConfirmSelectOptions::default())).await {
            Ok(()) => return channel,
            Err(error) => tracing::warn!(%error, "the broker closed a fresh channel"),
        }
    }
}

/// What the broker said of a whole window.
#[derive(PartialEq, Eq)]
enum Words {
    AllTaken,
    SomeRefused,
}

/// Publishes all jobs and answers those of which the broker has spoken. On an error the others stay in `jobs`.
async fn publish_window(channel: &Channel, jobs: &mut Vec<Job>) -> Result<Words, lapin::Error> {
    // Side by side, begun in their order: lapin is done with a publish when it is written, and one that waits for the one
    // before costs a write of its own and two changes of thread.
    let said = join_all(jobs.iter().map(|job| publish_one(channel, &job.outgoing))).await;
    let mut interrupted = None;
    let mut words = Vec::with_capacity(jobs.len());
    let mut returned = HashSet::new();
    for confirmation in said {
        let confirmation = confirmation.map_err(|error| interrupted.get_or_insert(error)).ok();
        words.push(confirmation.as_ref().map(Confirmation::is_ack));
        if let Some(message) = confirmation.and_then(Confirmation::take_message) {
            let Delivery { exchange, routing_key, properties, .. } = message.delivery;
            returned.insert((exchange, routing_key, properties.message_id().clone()));
        }
    }
    // What was returned before the channel broke has been reported with one of the confirms before that.
    let mut unanswered = Vec::new();
    let mut said = Words::AllTaken;
    let mut words = words.into_iter();
    for job in jobs.drain(..) {
        match words.next().flatten() {
            None => unanswered.push(job),
            Some(_) if returned.contains(&job.outgoing.address()) => {
                job.answer(Err(PublishError::Refused("its queue is missing")));
            }
            Some(false) => {
                said = Words::SomeRefused;
                job.answer(Err(PublishError::Refused("its queue is full or has no leader")));
            }
            Some(true) => {
                crash::point("publish.after", &job.outgoing);
                job.answer(Ok(()));
            }
        }
    }
    *jobs = unanswered;
    interrupted.map_or(Ok(said), Err)
}

/// What the broker said of one publish.
async fn publish_one(channel: &Channel, outgoing: &Outgoing) -> Result<Confirmation, lapin::Error> {
    crash::point("publish.before", outgoing);
    let sent = channel.basic_publish(
        outgoing.exchange.clone(),
        outgoing.routing_key.clone(),
        BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
        &outgoing.body,
        outgoing.properties.clone(),
    );
    let confirm = sent.await?;
    crash::point("publish.sent", outgoing);
    confirm.await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D5: a broker that confirms after twenty seconds is given a window a few times, and the next ones once.
    #[test]
    fn d5_a_slow_broker_is_given_the_same_a_few_times_and_not_for_ever() {
        let (limit, confirms_after) = (Duration::from_secs(3), Duration::from_secs(20));
        let mut patience = Patience::new(limit);
        let mut copies = Vec::new();
        for _window in 0..5 {
            let mut published = 1;
            while patience.now < confirms_after {
                patience.learn(None);
                published += 1;
            }
            patience.learn(Some(confirms_after));
            copies.push(published);
        }
        assert_eq!(copies, [4, 1, 1, 1, 1]);
        patience.learn(Some(Duration::from_millis(5)));
        assert_eq!(patience.now, limit, "a broker that is quick again is waited for as before");
        for _ in 0..100 {
            patience.learn(None);
        }
        assert_eq!(patience.now, Patience::MOST);
    }
}
