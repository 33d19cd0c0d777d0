//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod cache;
mod endings;
mod edge;
mod journey;
mod stack;
mod wechat;
