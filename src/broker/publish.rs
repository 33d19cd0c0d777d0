//! Publishing, confirmed: a message is with the broker, or we know that it may not be.
//!
//! One task publishes on one channel (tasks that share a channel can be given each other's confirms),
//! in windows: everything that is waiting goes out, then every confirm is awaited, then the window is
//! settled. Only over a whole window is it certain which message a `basic.return` belongs to, since the
//! broker's return may be reported with a neighbour's confirm; so it is matched by `message_id`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use lapin::{Channel, Confirmation, options::BasicPublishOptions, options::ConfirmSelectOptions};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Link, TraceParent, envelope::Outgoing};
use crate::domain::message::Message;

/// Publishes in flight on one channel. More gives little: confirms of a quorum queue come in groups anyway.
const WINDOW: usize = 256;
/// Channels side by side. A queue always takes the same one, which keeps its messages in order.
const LANES: usize = 2;
/// How often an idle lane looks whether its channel still stands.
const IDLE_LOOK: Duration = Duration::from_secs(1);

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
    /// The broker refused it: its queue is full or missing.
    #[error("the broker refused it: {0}")]
    Refused(&'static str),
}

struct Job {
    outgoing: Outgoing,
    done: oneshot::Sender<Result<(), PublishError>>,
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
    pub async fn publish(&self, message: &Message, trace: &TraceParent) -> Result<(), PublishError> {
        self.send(Outgoing::first(message, Some(trace), OffsetDateTime::now_utc())).await
    }

    /// Publishes all, side by side, each to its own queue; done when the broker has every one safely.
    ///
    /// # Errors
    /// The first of them; the other messages may be there. The caller may publish all of them again.
    pub async fn publish_all(&self, messages: &[Message]) -> Result<(), PublishError> {
        let now = OffsetDateTime::now_utc();
        let sends = messages.iter().map(|message| self.send(Outgoing::first(message, None, now)));
        futures_util::future::join_all(sends).await.into_iter().collect()
    }

    /// Publishes one prepared message.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let lane = outgoing.routing_key.as_str().bytes().fold(0usize, |sum, b| sum.wrapping_add(usize::from(b)));
        let (done, settled) = oneshot::channel();
        let job = Job { outgoing, done };
        let asked = async {
            if self.lanes[lane % LANES].send(job).await.is_err() {
                return Err(PublishError::Refused("the process is stopping"));
            }
            settled.await.unwrap_or(Err(PublishError::Refused("the process is stopping")))
        };
        timeout(self.confirm_within, asked).await.unwrap_or(Err(PublishError::Unconfirmed(self.confirm_within)))
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
        // A caller that has given up has said so to its own caller: its message must not appear later.
        window.retain(|job| !job.done.is_closed());
        let mut unsettled = std::mem::take(&mut window);
        while !unsettled.is_empty() {
            let window_size = unsettled.len();
            match timeout(confirm_within, publish_window(&channel, &mut unsettled)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::warn!(%error, window_size, "publishing was interrupted; the unconfirmed are published again");
                }
                Err(_) => {
                    tracing::warn!(window_size, "the broker does not confirm; the unconfirmed are published again")
                }
            }
            channel = confirming_channel(&link).await;
            unsettled.retain(|job| !job.done.is_closed());
        }
        window.clear();
    }
}

async fn confirming_channel(link: &Link) -> Channel {
    loop {
        let channel = link.channel_when_possible().await;
        match channel.confirm_select(ConfirmSelectOptions::default()).await {
            Ok(()) => return channel,
            Err(error) => tracing::warn!(%error, "the broker closed a fresh channel"),
        }
    }
}

/// Publishes all jobs and settles those that the broker answered. On an error the unanswered stay in `jobs`.
async fn publish_window(channel: &Channel, jobs: &mut Vec<Job>) -> Result<(), lapin::Error> {
    let mut confirms = Vec::with_capacity(jobs.len());
    for Job { outgoing, .. } in jobs.iter() {
        let confirm = channel
            .basic_publish(
                outgoing.exchange.clone(),
                outgoing.routing_key.clone(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                &outgoing.body,
                outgoing.properties.clone(),
            )
            .await?;
        confirms.push(confirm);
    }
    let mut returned = HashSet::new();
    let mut nacked = Vec::with_capacity(confirms.len());
    for confirm in confirms {
        let confirmation = confirm.await?;
        nacked.push(!matches!(confirmation, Confirmation::Ack(_)));
        returned
            .extend(confirmation.take_message().and_then(|message| message.delivery.properties.message_id().clone()));
    }
    for (job, nacked) in jobs.drain(..).zip(nacked) {
        let answer = if job.outgoing.message_id().is_some_and(|id| returned.contains(id)) {
            Err(PublishError::Refused("its queue is missing"))
        } else if nacked {
            Err(PublishError::Refused("its queue is full"))
        } else {
            Ok(())
        };
        // The caller may have stopped waiting; the message is there all the same, which is harmless.
        let _ = job.done.send(answer);
    }
    Ok(())
}
