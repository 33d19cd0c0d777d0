//! RabbitMQ: carries messages and makes them wait. The only place with lapin.

pub mod envelope;
pub mod publish;
