//! Whole stacks while their servers are stopped, killed and emptied under them.
//!
//! Run by `./dev test outages`, which lends these tests a set of servers that nobody else uses. A test has the
//! set for itself as long as it holds [`servers::Servers`].

mod alarms;
mod bookings;
#[path = "../it/books.rs"]
mod books;
mod broker;
#[path = "../it/customer.rs"]
mod customer;
mod database;
mod redis_away;
mod servers;
// Shared with the other test program, which uses more of it.
#[allow(dead_code)]
#[path = "../it/stack.rs"]
mod stack;
