//! Settings of orders: their price, their deadlines and the limits per customer.

use serde::Deserialize;
use time::Duration;

use super::problem;
use crate::{
    domain::{
        neighbours::Neighbours,
        schedule::Price,
        session_rules::{DefaultRules, RefundRules, SeatsPerCustomer},
    },
    setting::BadSetting,
    store::{hold::Deadlines, waitlist::Terms},
    workers::AlarmTimes,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderSettings {
    pub id_prefix: String,
    pub neighbours: String,
    pub price_fen: i64,
    pub hold_seconds: u32,
    pub payment_seconds: u32,
    pub check_seconds: u32,
    pub refund_interval_seconds: u32,
    pub unpaid_per_customer: u32,
    pub seats_per_customer: u32,
    pub refund_rules: String,
}

impl OrderSettings {
    /// What a held order is made with.
    pub fn terms(&self) -> Terms {
        let deadlines = Deadlines {
            hold: Duration::seconds(self.hold_seconds.into()),
            payment: Duration::seconds(self.payment_seconds.into()),
        };
        let unpaid_per_customer = i64::from(self.unpaid_per_customer);
        Terms { id_prefix: self.id_prefix.clone(), deadlines, unpaid_per_customer }
    }

    pub fn alarms(&self) -> AlarmTimes {
        let seconds = |seconds: u32| std::time::Duration::from_secs(seconds.into());
        AlarmTimes {
            hold: seconds(self.hold_seconds),
            payment: seconds(self.payment_seconds),
            check: seconds(self.check_seconds),
        }
    }

    pub fn refund_interval(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.refund_interval_seconds.into())
    }

    /// The rules of a session that is added without its own.
    ///
    /// # Errors
    /// A rule contradicts itself or another one.
    pub fn session_rules(&self) -> Result<DefaultRules, BadSetting> {
        let seats = SeatsPerCustomer::try_from(i64::from(self.seats_per_customer));
        let refunds = RefundRules::parse(&self.refund_rules);
        Ok(DefaultRules {
            seats_per_customer: seats.map_err(|wrong| problem("order.seats_per_customer", wrong.to_string()))?,
            refund_rules: refunds.map_err(|wrong| problem("order.refund_rules", wrong.to_string()))?,
        })
    }

    /// Other environments under this merchant number.
    ///
    /// # Errors
    /// Their orders could not be told from ours.
    pub fn neighbours(&self) -> Result<Neighbours, BadSetting> {
        Neighbours::parse(&self.neighbours, &self.id_prefix).map_err(|what| problem("order.neighbours", what))
    }

    /// What a session costs that is added without a price.
    ///
    /// # Errors
    /// It is no price.
    pub fn price(&self) -> Result<Price, BadSetting> {
        Price::try_from(self.price_fen).map_err(|malformed| problem("order.price_fen", malformed.to_string()))
    }

    pub(super) fn problems(&self) -> Vec<BadSetting> {
        let mut problems: Vec<BadSetting> = self.neighbours().err().into_iter().collect();
        let prefix_fits =
            self.id_prefix.len() <= 8 && self.id_prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !prefix_fits {
            problems.push(problem("order.id_prefix", "must be at most 8 of a-z and 0-9"));
        }
        problems.extend(self.price().err());
        problems.extend(self.session_rules().err());
        if self.unpaid_per_customer == 0 {
            problems.push(problem("order.unpaid_per_customer", "must be above zero"));
        }
        if self.hold_seconds == 0 || self.hold_seconds > self.payment_seconds {
            problems.push(problem("order.hold_seconds", "must be above zero and at most order.payment_seconds"));
        }
        // A week: RabbitMQ bears delays of 49 days, WeChat's codes are good for two hours.
        const LONGEST: u32 = 604_800;
        for (setting, seconds) in [
            ("order.payment_seconds", self.payment_seconds),
            ("order.check_seconds", self.check_seconds),
            ("order.refund_interval_seconds", self.refund_interval_seconds),
        ] {
            if !(1..=LONGEST).contains(&seconds) {
                problems.push(problem(setting, format!("must be from 1 to {LONGEST}")));
            }
        }
        problems
    }
}
