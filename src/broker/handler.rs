//! What a worker is to the loop: the messages it takes, how many at once, and a verdict on each.

use std::future::Future;

use crate::{
    domain::{calendar::Moment, message::Message, retry::Class},
    evidence::Mark,
    spans::TraceParent,
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
    /// The context it came with; one made for it when it came without.
    pub(super) trace: TraceParent,
    /// What its trace is kept under; `None` when none is kept.
    pub(super) marked: Option<Marked>,
}

/// What a message's trace says of it, whatever the handler makes of the message.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    pub(super) order: String,
    pub(super) kind: &'static str,
    pub(super) key: String,
    pub(super) sent_at: Option<String>,
}

impl Marked {
    pub(super) fn of(message: &Message, published_at: Option<u64>) -> Option<Self> {
        let sent_at =
            published_at.and_then(|seconds| Moment::of_seconds(i64::try_from(seconds).ok()?)).map(|at| at.to_string());
        Some(Self { order: message.order()?.to_owned(), kind: message.kind(), key: message.key(), sent_at })
    }
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
    /// A server is away, or fails for every message. The batch stays in hand, in order, until a probe gets through.
    #[error("{0}")]
    Away(String),
    /// The other side answers, and refuses every message of this kind (rights, keys, clock, quota). As `Away`; it is
    /// over once `until` is passed, since a message that passes may not have needed what is refused.
    #[error("{reason}")]
    Barred { reason: String, until: Mark },
    /// Another step was in the way; the same one will most likely pass now. One that never passes is parked.
    #[error("{0}")]
    Conflict(String),
    /// Another transaction holds what the step needs. As `Conflict`; while it lasts it is an outage.
    #[error("{0}")]
    Contention(String),
    /// A newer release wrote what the message is about. It is tried again until such a release takes it.
    #[error("{0}")]
    Newer(String),
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
