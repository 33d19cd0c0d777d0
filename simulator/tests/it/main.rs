//! The simulator as a merchant meets it: over HTTP, by a tiny merchant of our own that signs, verifies and decrypts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod account;
mod arguments;
mod bills;
mod callbacks;
mod journal;
mod keys;
mod merchant;
mod orders;
mod phone;
mod protocol;
mod refunds;
mod requests;
mod script;
mod seed;
