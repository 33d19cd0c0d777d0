//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod absences;
mod degraded;
mod forgery;
mod idempotency;
mod ingress;
mod journey;
mod metrics;
mod parking;
mod qr;
mod queues;
mod reading;
mod schema;
mod sessions;
mod stack;
mod stopping;
mod webhook;
mod wechat;
