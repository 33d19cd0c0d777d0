//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod journey;
mod reconcile;
mod stack;
mod verify;
mod wechat;
