//! Everything that needs servers: whole stacks of real processes, and parts against real neighbours. And what is
//! said about the project as a whole: its documents and what its sources must not contain.

mod absences;
mod documents;
mod journey;
mod readme;
mod requirements;
mod sources;
mod stack;
mod wechat;
