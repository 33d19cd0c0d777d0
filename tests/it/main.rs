//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod absences;
mod books;
mod browser;
mod cache;
mod cancel;
mod cancellation;
mod chromium;
mod cli;
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
mod jsapi;
mod look;
mod metrics;
mod parking;
mod publisher;
mod qr;
mod queues;
mod reading;
mod readme;
mod reconcile;
mod refund_api;
mod requirements;
mod schema;
mod sessions;
mod sources;
mod stack;
mod staged;
mod stopping;
mod verify;
mod waitlist_api;
mod webhook;
mod wechat;
