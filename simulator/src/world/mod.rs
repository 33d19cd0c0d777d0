//! WeChat's memory and its rules, as a pure state machine: every function takes the time, answers what to say,
//! and notes in the agenda what is to happen later. No network, no clock, no keys.

pub(crate) mod account;
mod agenda;
pub(crate) mod bill;
mod bill_file;
pub(crate) mod callback;
pub(crate) mod fault;
mod journal;
pub(crate) mod ledger;
pub(crate) mod letter;
pub(crate) mod order;
pub(crate) mod payment;
pub(crate) mod play;
pub(crate) mod refund;
pub(crate) mod script;

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use time::{Date, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use self::{
    account::Account, agenda::Agenda, bill::Bills, callback::Callback, journal::Journal, order::Order, play::Play,
    refund::Refund,
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
    /// 200 with these bytes, which nobody signs.
    File { bytes: Vec<u8>, media_type: &'static str },
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
    /// Counts orders and refunds, to tell them in the order in which they came.
    sequence: u64,
    account: Account,
    bills: Bills,
    journal: Journal,
    pub(crate) play: Play,
    /// How often the merchant has set another APIv3 key.
    pub(crate) apiv3_keys: usize,
}

impl World {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            orders: HashMap::new(),
            codes: HashMap::new(),
            transactions: HashMap::new(),
            refunds: HashMap::new(),
            callbacks: HashMap::new(),
            held_back: None,
            agenda: Agenda::default(),
            sequence: 0,
            account: Account::default(),
            bills: Bills::default(),
            journal: Journal::default(),
            play: Play::new(settings.seed),
            apiv3_keys: 0,
            settings,
        }
    }

    /// Numbers for one thing, which `key` names: the seed's, whenever and in whatever order they are drawn.
    fn numbers_of(&self, key: &[&str]) -> Seeded {
        let key: Vec<&[u8]> = key.iter().map(|part| part.as_bytes()).collect();
        Seeded::of(self.settings.seed, &key)
    }

    fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

const CHINA: UtcOffset = match UtcOffset::from_hms(8, 0, 0) {
    Ok(offset) => offset,
    Err(_) => UtcOffset::UTC,
};

/// The day in China.
pub(crate) fn china_date(time: OffsetDateTime) -> Date {
    time.to_offset(CHINA).date()
}

/// China time to the second, as WeChat writes it.
pub(crate) fn china(time: OffsetDateTime) -> String {
    let time = time.to_offset(CHINA).replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).expect("years are of four digits and offsets of whole minutes")
}
