//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours.

mod absences;
mod cache;
mod documents;
mod edge;
mod endings;
mod journey;
mod readme;
mod requirements;
mod sources;
mod stack;
mod wechat;
