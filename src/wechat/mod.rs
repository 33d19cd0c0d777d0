//! WeChat: Pay APIv3 for a direct merchant, and Official Account messages.
//!
//! The only part of holdfast that calls out over HTTP. It knows the protocol and nothing of orders, queues or
//! databases. Read it in this order:
//!
//! | file | question it answers |
//! |---|---|
//! | [`settings`], [`account`] | who are we, and is everything there and right? |
//! | [`sign`] | how do we prove that a request is ours? |
//! | [`verify`], [`certificates`] | how do we know that an answer or callback is WeChat's? |
//! | [`aead`], [`notification`] | what does a callback say? |
//! | [`transaction`], [`refund`] | WeChat's two documents |
//! | [`answers`] | what may we conclude from an exchange, and what not? |
//! | `connection`, [`exchange`], [`pay`] | the calls |
//! | [`bill`] | what did WeChat take and give back on a day? |
//! | [`official_account`], [`template`], [`reaction`] | messages to the customer |
//!
//! One rule runs through all of it: only an answer whose signature was checked is a fact. Everything else (a
//! time-out, a 5xx, an HTML page, an error without a signature) is [`answers::Inconclusive`].

pub mod account;
pub mod aead;
pub mod answers;
pub mod bill;
mod bill_calls;
pub mod certificates;
mod connection;
pub mod exchange;
pub mod notification;
pub mod official_account;
pub mod pay;
pub mod reaction;
pub mod refund;
pub mod settings;
pub mod sign;
pub mod template;
pub mod transaction;
pub mod verify;

#[cfg(test)]
mod tests;

use time::OffsetDateTime;

/// Where the module's time and nonces come from, so that a test can choose both.
#[derive(Debug, Clone, Copy)]
pub struct Ambient {
    pub now: fn() -> OffsetDateTime,
    /// A fresh text for `nonce_str`: 16 to 32 ASCII letters and digits, never the same twice.
    pub nonce: fn() -> String,
}

impl Ambient {
    /// The machine's clock, and nonces of 74 random bits behind a millisecond.
    pub fn system() -> Self {
        Self { now: OffsetDateTime::now_utc, nonce: || uuid::Uuid::now_v7().simple().to_string() }
    }
}
