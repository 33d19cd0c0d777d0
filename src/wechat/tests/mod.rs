//! Tests of the WeChat part: published vectors, a pretended WeChat with its own keys, and arbitrary input.

mod answers;
mod bill;
mod bill_link;
mod certificates;
mod connection;
mod notification;
mod official_account;
mod pay;
mod settings;
mod sign;
mod support;
mod verify;
