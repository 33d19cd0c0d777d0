//! holdfast: seats booked, paid with WeChat Pay, on a queue.
//!
//! The map, in reading order:
//!
//! - [`domain`]: the rules, free of IO.
//! - [`store`]: PostgreSQL, the truth.
//! - [`broker`]: RabbitMQ, which carries and waits.
//! - [`cache`]: Redis, which only makes things quick.
//! - [`wechat`]: WeChat Pay and the Official Account.
//! - [`tokens`]: who a caller is, by a signed token; an OpenID issuer's keys.
//! - [`api`]: what frontends and WeChat talk to.
//! - [`workers`]: who does what with which message.
//! - [`trace`]: what happened around an order, noted from wherever it happens.
//! - [`spans`]: how long each step took and what it followed from, for a collector of OpenTelemetry.
//! - [`gather`]: how either is noted without waiting.
//! - [`dead_letters`]: what operators do with messages that nobody could handle.
//! - [`desk`]: what operators decide, once for command line, API and console.
//! - [`config`], [`setting`], [`keys`], [`tls`], [`telemetry`], [`heartbeat`], [`process`]: how a role boots and stops.
//! - [`live`]: a value that is replaced while it is in use.
//! - `crash`: points at which tests kill a process; nothing in a release.
//! - [`ops`], [`exit`]: the operator's commands and how they end.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test's own times are sane"))]

pub mod api;
pub mod broker;
pub mod cache;
pub mod config;
mod crash;
pub mod dead_letters;
pub mod desk;
pub mod domain;
pub mod evidence;
pub mod exit;
pub mod gather;
pub mod heartbeat;
pub mod keys;
pub mod live;
pub mod ops;
pub mod process;
pub mod setting;
pub mod spans;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod trace;
pub mod wechat;
#[path = "../workers/mod.rs"]
pub mod workers;
