//! `holdfast topology`: is the broker as `rabbitmq/definitions.json` says?

use serde::Serialize;

use crate::{
    broker::{
        Link,
        topology::{Difference, Survey, Topology},
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
    account: String,
    /// Whether arguments were compared, which only an account can that may declare.
    compared: bool,
    /// What this account may not look at.
    unseen: Vec<Unseen>,
}

#[derive(Serialize)]
struct Unseen {
    what: &'static str,
    name: String,
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let link = Link::new(needed("broker.url", &settings.broker.url)?, "topology".into());
    let topology = Topology::required();
    let survey = match command {
        Command::Check => topology.survey(&link).await?,
        Command::Apply => Survey { differences: topology.apply(&link).await?, unseen: Vec::new(), compared: true },
    };
    link.close().await;
    let all = topology.queues.len() + topology.exchanges.len();
    let report = Report {
        queues: topology.queues.len(),
        exchanges: topology.exchanges.len(),
        items: survey.differences,
        next: None,
        account: link.account(),
        compared: survey.compared,
        unseen: survey.unseen.into_iter().map(|(what, name)| Unseen { what, name }).collect(),
    };
    super::print(json, &report, || words(&report));
    if !report.items.is_empty() {
        Err(Failure::No("the broker differs".into()))
    } else if report.unseen.len() == all {
        Err(Failure::No(format!("the account {} may look at nothing here", report.account)))
    } else {
        Ok(())
    }
}

fn words(report: &Report) -> String {
    let Report { queues, exchanges, account, .. } = report;
    let mut lines: Vec<String> = report.items.iter().map(ToString::to_string).collect();
    let seen = queues + exchanges - report.unseen.len();
    if report.unseen.is_empty() && lines.is_empty() {
        lines.push(format!("{queues} queues and {exchanges} exchanges are as they must be"));
    } else if lines.is_empty() && seen > 0 {
        lines.push(format!("{seen} of {queues} queues and {exchanges} exchanges are as they must be"));
    }
    if !report.unseen.is_empty() {
        let unseen: Vec<String> = report.unseen.iter().map(|Unseen { what, name }| format!("{what} {name}")).collect();
        lines.push(format!("the account {account} may not look at: {}", unseen.join(", ")));
    }
    if !report.compared {
        lines.push(format!("arguments were not compared: the account {account} may declare nothing"));
    }
    lines.join("\n")
}
