//! The operators' desk: what operators decide, once, for the command line, the API and the console.
//!
//! Unlike a customer's wish a decision is written to PostgreSQL at once, since a person waits for the answer. Whatever it
//! leads to takes the ordinary queues; should the message be lost, `reconcile` finds the row.

pub mod cancellation;
pub mod cases;
pub mod overrides;
pub mod refunds_at_wechat;
pub mod schedules;
