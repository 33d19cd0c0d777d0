//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod absences;
mod books;
mod cache;
mod cancellation;
mod consuming;
mod crowd;
mod customer;
mod degraded;
mod documents;
mod edge;
mod endings;
mod forgery;
mod idempotency;
mod ingress;
mod journey;
mod metrics;
mod parking;
mod publisher;
mod qr;
mod queues;
mod reading;
mod readme;
mod reconcile;
mod requirements;
mod schema;
mod sessions;
mod sources;
mod stack;
mod stopping;
mod verify;
mod webhook;
mod wechat;
