//! holdfast: seats booked, paid with WeChat Pay, on a queue.
//!
//! The map, in reading order:
//!
//! - [`domain`]: the rules, free of IO.

pub mod domain;
