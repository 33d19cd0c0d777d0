//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod books;
mod consuming;
mod crowd;
mod customer;
mod journey;
mod publisher;
mod stack;
mod wechat;
