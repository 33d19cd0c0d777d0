//! The crash matrix: every process killed at every point of every story, and each time a fresh one finishes.
//!
//! A *point* is a place of `src/crash.rs` in one role: before or after a commit, a publish, an acknowledgement, a call
//! of WeChat. A *story* is what customers, WeChat and operators do (`stories.rs`). A *cell* is a story during which the
//! process dies at one point, or the fresh one at a second. It is green when the story ends as it must, the books hold
//! every promise, WeChat's ledger agrees, and nobody was told anything twice or anything else.
//!
//! Beside it stands the twin matrix: a process is paused at a point, a twin handles a second copy of the same message,
//! and the first goes on. Its cells are judged in the same way.
//!
//! `./dev test crash` and `./dev test twins` run all cells; `./dev test` a cut of both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod cell;
mod contests;
mod crew;
mod door;
mod hands;
mod lane;
mod letters;
mod matrix;
mod operators;
mod points;
mod rest;
mod safeguards;
mod stories;
mod tale;
mod twin;
mod twin_matrix;

// Shared with the other test program, which uses more of them.
#[allow(dead_code)]
#[path = "../it/books.rs"]
mod books;
#[allow(dead_code)]
#[path = "../it/customer.rs"]
mod customer;
#[allow(dead_code)]
#[path = "../it/money.rs"]
mod money;
#[allow(dead_code)]
#[path = "../it/queues.rs"]
mod queues;
#[path = "../it/sources.rs"]
mod sources;
#[allow(dead_code)]
#[path = "../it/stack.rs"]
mod stack;
#[allow(dead_code)]
#[path = "../it/staged.rs"]
mod staged;
#[allow(dead_code)]
#[path = "../it/story.rs"]
mod story;
#[allow(dead_code)]
#[path = "../it/wire.rs"]
mod wire;
