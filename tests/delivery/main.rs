//! What an installation lives through: the next release takes over while people book, a backup runs over the turn of a month,
//! the books are lost and restored, and people act on what `./dev up` has started.
//!
//! `./dev test upgrade` lends the first the former release's executable; `./dev test restore` runs the next two, `./dev test up`
//! the last.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
// Shared with the tests, which use more of it.
#![allow(dead_code)]

mod backup;
#[path = "../it/books.rs"]
mod books;
#[path = "../it/customer.rs"]
mod customer;
mod dev_up;
#[path = "../it/habits.rs"]
mod habits;
#[path = "../it/load.rs"]
mod load;
#[path = "../it/money.rs"]
mod money;
#[path = "../it/months.rs"]
mod months;
#[path = "../it/queues.rs"]
mod queues;
mod restore;
mod shoppers;
#[path = "../it/stack.rs"]
mod stack;
#[path = "../it/story.rs"]
mod story;
mod upgrade;
