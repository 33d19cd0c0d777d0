//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod books;
mod crowd;
mod customer;
mod journey;
mod stack;
mod wechat;
