//! holdfast: seats booked, paid with WeChat Pay, on a queue.
//!
//! The map, in reading order:
//!
//! - [`domain`]: the rules, free of IO.
//! - [`store`]: PostgreSQL, the truth.
//! - [`broker`]: RabbitMQ, which carries and waits.
//! - [`cache`]: Redis, which makes things quick.

pub mod broker;
pub mod cache;
pub mod domain;
pub mod store;
