//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod ingress;
mod journey;
mod metrics;
mod queues;
mod stack;
mod wechat;
