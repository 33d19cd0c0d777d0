//! Reads what the processes count, as Prometheus would.

use reqwest::Client;
use serde_json::Value;

use crate::stack::{Stack, until};

/// The address where a worker can be asked, as it says in its log.
pub(crate) async fn health_of(stack: &Stack, worker: &str) -> String {
    until(&format!("{worker} tells its address"), async || {
        let log = std::fs::read_to_string(stack.log(worker)).ok()?;
        log.lines().rev().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["health"].as_str()?.to_owned())
        })
    })
    .await
}

/// Everything one process has counted so far.
pub(crate) struct Counts(String);

impl Counts {
    pub(crate) async fn of_api(stack: &Stack) -> Self {
        Self::of_worker(stack, "api").await
    }

    pub(crate) async fn of_worker(stack: &Stack, worker: &str) -> Self {
        Self::at(&stack.http, &format!("http://{}", health_of(stack, worker).await)).await
    }

    async fn at(http: &Client, address: &str) -> Self {
        let answer = http.get(format!("{address}/metrics")).send().await.expect("metrics");
        Self(answer.text().await.expect("a text"))
    }

    /// The sum of all samples of this name that carry these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '))
            .filter(|(found, _)| found.is_empty() || found.starts_with('{'))
            .filter(|(found, _)| wanted.iter().all(|label| found.contains(label)))
            .map(|(_, value)| value.parse::<u64>().expect("a counter"))
            .sum()
    }
}
