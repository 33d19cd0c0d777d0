//! The rules, free of IO: no async, no SQL, no HTTP, no broker, no clock of its own.
//!
//! Read in this order: [`order`] (the life of an order; [`order_diagram`] draws it), [`refund`] (the life of a refund),
//! [`seats`] (who gets which seat), [`session_rules`] (when, how many, what goes back), [`limits`] (how much one customer
//! holds), [`books`] (what differs from WeChat's bill), [`message`] (what travels on the
//! queues), [`retry`] (what a failure leads to), [`dead_letter`] (what is parked) and [`prospect`] (what would come of it
//! now); then what operators see and decide: [`timeline`] and [`explain`], [`case`], [`overrides`].
//!
//! Values from outside are parsed once, by every door: [`ids`], [`money`], [`calendar`] (times), [`text`] (texts),
//! [`schedule`] (a session to be added).

pub mod books;
pub mod calendar;
pub mod case;
pub mod dead_letter;
pub mod document;
pub mod explain;
pub mod hex;
pub mod history;
pub mod ids;
pub mod json;
pub mod limits;
pub mod message;
pub mod money;
pub mod neighbours;
pub mod notification;
pub mod order;
pub mod order_diagram;
pub mod overrides;
pub mod prospect;
pub mod refund;
pub mod refund_facts;
pub mod retry;
pub mod schedule;
pub mod seats;
pub mod session_rules;
pub mod text;
pub mod timeline;
