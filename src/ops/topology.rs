//! `holdfast topology`: is the broker as `rabbitmq/definitions.json` says?

use serde::Serialize;

use crate::{
    broker::{
        Link,
        topology::{Difference, Topology},
    },
    config::{Settings, needed},
    exit::Failure,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Say what is missing or different; exit 1 if anything is.
    Check,
    /// Declare what is missing. What exists otherwise is told and left alone: there may be messages in it.
    Apply,
}

#[derive(Serialize)]
struct Report {
    queues: usize,
    exchanges: usize,
    /// What differs.
    items: Vec<Difference>,
    next: Option<String>,
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let link = Link::new(needed("broker.url", &settings.broker.url)?, "topology".into());
    let topology = Topology::required();
    let differences = match command {
        Command::Check => topology.check(&link).await?,
        Command::Apply => topology.apply(&link).await?,
    };
    link.close().await;
    let report =
        Report { queues: topology.queues.len(), exchanges: topology.exchanges.len(), items: differences, next: None };
    super::print(json, &report, || {
        if report.items.is_empty() {
            format!("{} queues and {} exchanges are as they must be", report.queues, report.exchanges)
        } else {
            report.items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
    });
    if report.items.is_empty() { Ok(()) } else { Err(Failure::No("the broker differs".into())) }
}
