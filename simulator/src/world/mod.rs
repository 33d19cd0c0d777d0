//! WeChat's memory and its rules, as a pure state machine: every function takes the time, answers what to say,
//! and notes in the agenda what is to happen later. No network, no clock, no keys.

pub(crate) mod account;
mod agenda;
pub(crate) mod callback;
mod journal;
pub(crate) mod ledger;
pub(crate) mod order;
pub(crate) mod payment;
pub(crate) mod refund;
pub(crate) mod script;

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use self::{
    account::Account, agenda::Agenda, callback::Callback, journal::Journal, order::Order, refund::Refund, script::Play,
};
use crate::{random::Seeded, refusal::Refusal, settings::Settings};

/// What a call of Pay v3 answers.
pub(crate) type Outcome = Result<Reply, Refusal>;

/// A successful answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// 200 with this document.
    Document(Value),
    /// 204.
    Nothing,
}

/// All that WeChat knows.
pub(crate) struct World {
    settings: Arc<Settings>,
    orders: HashMap<String, Order>,
    /// The order behind each `pr` of a code_url, dead codes included.
    codes: HashMap<String, String>,
    /// The order behind each transaction id.
    transactions: HashMap<String, String>,
    refunds: HashMap<String, Refund>,
    callbacks: HashMap<String, Callback>,
    /// The callback that waits until another one has gone out.
    held_back: Option<String>,
    agenda: Agenda,
    random: Seeded,
    /// Counts orders and refunds, to tell them in the order in which they came.
    sequence: u64,
    account: Account,
    journal: Journal,
    pub(crate) play: Play,
}

impl World {
    /// `entropy` makes codes and numbers differ from those of any earlier life.
    pub(crate) fn new(settings: Arc<Settings>, entropy: u64) -> Self {
        Self {
            orders: HashMap::new(),
            codes: HashMap::new(),
            transactions: HashMap::new(),
            refunds: HashMap::new(),
            callbacks: HashMap::new(),
            held_back: None,
            agenda: Agenda::default(),
            random: Seeded::new(entropy),
            sequence: 0,
            account: Account::default(),
            journal: Journal::default(),
            play: Play::new(settings.seed),
            settings,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// China time to the second, as WeChat writes it.
pub(crate) fn china(time: OffsetDateTime) -> String {
    const CHINA: UtcOffset = match UtcOffset::from_hms(8, 0, 0) {
        Ok(offset) => offset,
        Err(_) => UtcOffset::UTC,
    };
    let time = time.to_offset(CHINA).replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).expect("years are of four digits and offsets of whole minutes")
}
