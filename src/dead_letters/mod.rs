//! What operators do with parked messages: look, judge, replay, discard, restore. The one implementation behind the
//! command line, the API and the console.
//!
//! The queues `*.dead` are the truth about what is parked: nothing is taken out of them by looking. A reading enters
//! what lies there into a catalogue (PostgreSQL), which is searched, grouped and judged at once, and which remembers
//! what was decided. A decision is stored first, and the next reading takes the letter out of its queue. So whoever
//! dies, wherever, has lost nothing: at worst a message is published twice, which changes nothing.

mod act;
pub mod document;
mod keep;
mod look;
mod perform;
mod read;
mod replay;
mod wechat;

use std::sync::Arc;

use uuid::Uuid;

pub use act::Discarded;
pub use look::By;
pub use replay::{Plan, Turn};

use crate::{
    broker::{Broker, BrokerAway},
    domain::{dead_letter::Unpatchable, prospect::Prospect},
    store::{Database, StoreError, dead_letter::Filter, payment::Merchant, sealed::PersonalKeys},
};

/// Everything that is needed to deal with dead letters. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    pub db: Database,
    pub broker: Broker,
    pub personal: Arc<PersonalKeys>,
    pub merchant: Merchant,
}

/// Which letters, and what would come of them.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub filter: Filter,
    pub effect: Option<Prospect>,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerAway),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no dead letter {0}")]
    NoSuchLetter(String),
    #[error("there is no replay {0}")]
    NoSuchReplay(Uuid),
    #[error("no dead letter ever had the cause {0}")]
    NoSuchCause(String),
    #[error("no parked letter fits")]
    NothingFits,
    #[error("more than {0} letters fit: choose fewer")]
    TooMany(i64),
    #[error("{letter_id}: {why}")]
    Unpatchable { letter_id: String, why: Unpatchable },
    #[error("the replay is {0}")]
    WrongState(&'static str),
    #[error("the set's hash is {0}: it is not the one that was looked at")]
    OtherSet(String),
    #[error("{0} names neither an order nor a refund of ours")]
    NothingToAsk(String),
}
