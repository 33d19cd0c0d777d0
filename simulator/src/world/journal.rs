//! The books as lines of a file: each record is the newest state of one thing, so that reading them again in
//! order restores everything that matters. What is under way goes on: unsettled refunds, unaccepted callbacks.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    World,
    account::{Message, Tokens},
    bill::ClosedDay,
    callback::Callback,
    order::Order,
    refund::Refund,
};
use crate::settings::Settings;

/// Lines that are to be written. Nothing is gathered unless somebody keeps them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    kept: bool,
    lines: String,
}

/// One line.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Order(Order),
    Refund(Refund),
    Message(Message),
    Tokens(Tokens),
    Callback(Callback),
    Bill(ClosedDay),
    /// This callback was accepted or given up.
    Told(String),
}

impl Journal {
    pub(super) fn record(&mut self, kind: &'static str, thing: &impl Serialize) {
        if self.kept {
            let record = serde_json::json!({kind: thing});
            self.lines.push_str(&record.to_string());
            self.lines.push('\n');
        }
    }
}

impl World {
    /// The world as the lines of its journal tell it, keeping the journal further.
    ///
    /// # Errors
    /// Names the line that cannot be understood.
    pub(crate) fn recall(settings: Arc<Settings>, lines: &str) -> Result<Self> {
        let mut world = Self::new(settings);
        let mut refunds = std::collections::BTreeMap::new();
        for (number, line) in (1..).zip(lines.lines()) {
            let record = serde_json::from_str(line).with_context(|| format!("line {number} of the journal"))?;
            match record {
                Record::Order(order) => {
                    world.saw(order.number);
                    world.codes.insert(order.code.0.clone(), order.out_trade_no.clone());
                    if let Some(payment) = &order.payment {
                        world.transactions.insert(payment.transaction_id.clone(), order.out_trade_no.clone());
                    }
                    world.orders.insert(order.out_trade_no.clone(), order);
                }
                Record::Refund(refund) => {
                    world.saw(refund.number);
                    refunds.insert(refund.number, refund);
                }
                Record::Message(message) => world.account.enter(message),
                Record::Tokens(tokens) => world.account.tokens = tokens,
                Record::Bill(day) => world.bills.enter(day),
                Record::Callback(callback) => {
                    world.callbacks.insert(callback.letter.id.clone(), callback);
                }
                Record::Told(id) => {
                    world.callbacks.remove(&id);
                }
            }
        }
        for refund in refunds.into_values() {
            world.enter_refund(refund);
        }
        let due: Vec<_> = world.callbacks.values().map(|callback| (callback.letter.id.clone(), callback.due)).collect();
        for (id, due) in due {
            world.send_at(&id, due);
        }
        world.journal.kept = true;
        Ok(world)
    }

    fn saw(&mut self, number: u64) {
        self.sequence = self.sequence.max(number);
    }

    /// What has happened since the last time this was asked, as lines.
    pub(crate) fn take_records(&mut self) -> String {
        std::mem::take(&mut self.journal.lines)
    }
}
