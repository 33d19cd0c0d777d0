//! The alert rules, the dashboard and the run book: they name what is there, and a real Prometheus that scrapes a real
//! stack is silent in health and tells of a fault.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    metrics::health_of,
    queues::Queues,
    stack::{Choice, Stack, WORKERS, checkout, free_port, until},
};

const RULES: &str = "deploy/prometheus/alerts.yml";
const TESTS: &str = "deploy/prometheus/alerts_test.yml";
const DASHBOARD: &str = "deploy/grafana/holdfast.json";

fn read(path: &str) -> String {
    fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(checkout("")).output().expect("promtool runs");
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// What follows `key: ` on the lines that begin with it.
fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(key));
    lines.map(|value| value.trim().to_owned()).collect()
}

#[test]
fn s5_2_every_alert_fires_by_its_fault_and_is_silent_in_health() {
    promtool(&["check", "rules", RULES]);
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"]);
    promtool(&["test", "rules", TESTS]);
    let alerts = values(&read(RULES), "- alert: ");
    // An alert may have further faults: "… fires while …".
    let (further, tests): (Vec<String>, Vec<String>) =
        values(&read(TESTS), "- name: ").into_iter().partition(|name| name.contains(" fires while "));
    for name in further {
        let known = alerts.iter().any(|alert| name.starts_with(&format!("{alert} fires while ")));
        assert!(known, "{name}: no such alert");
    }
    let wanted: Vec<String> =
        alerts.iter().flat_map(|alert| [format!("{alert} fires"), format!("{alert} is silent")]).collect();
    assert_eq!(tests, wanted);
}

#[test]
fn every_alert_has_its_place_in_the_run_book() {
    let headings: BTreeSet<String> = values(&read("docs/operations.md"), "### ").into_iter().collect();
    let alerts: BTreeSet<String> = values(&read(RULES), "- alert: ").into_iter().collect();
    let told: BTreeSet<String> = headings.into_iter().filter(|heading| heading.starts_with("Holdfast")).collect();
    assert_eq!(told, alerts);
}

#[test]
fn rules_and_dashboard_name_metrics_that_are_there() {
    let sources: String = crate::sources::of(&["src", "workers"]).into_iter().map(|(_, text)| text).collect();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str())
        .collect();
    let rules = read(RULES);
    expressions.extend(rules.split("expr: >-").skip(1).filter_map(|rule| rule.split("labels:").next()));
    let mut unknown = BTreeSet::new();
    for name in expressions.iter().flat_map(|text| metric_names(text)) {
        let bare = ["_bucket", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        if name != "up" && !sources.contains(&format!("\"{bare}\"")) {
            unknown.insert(name);
        }
    }
    assert!(unknown.is_empty(), "nothing in the sources is called {unknown:?}");
}

/// The words of an expression that are no function, keyword or label: before `{`, `[`, `)` or an operator.
fn metric_names(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 14] = [
        "by",
        "on",
        "or",
        "unless",
        "sum",
        "max",
        "rate",
        "increase",
        "histogram_quantile",
        "absent",
        "for",
        "m",
        "s",
        "and",
    ];
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let word: String = rest[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        rest = &rest[start + word.len()..];
        if matches!(word.as_str(), "by" | "on") {
            // The labels it groups by.
            rest = rest.split_once(')').map_or("", |(_, after)| after);
        } else if let Some(labels) = rest.strip_prefix('{') {
            names.insert(word);
            rest = labels.split_once('}').map_or("", |(_, after)| after);
        } else if !WORDS.contains(&word.as_str()) {
            names.insert(word);
        }
    }
    names
}

/// A Prometheus of a test's own; it ends with the test.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Scrapes and judges every second, by our rules without their patience.
    async fn start(directory: PathBuf, targets: &[String]) -> Self {
        fs::create_dir_all(&directory).expect("a directory");
        let rules: String = read(RULES)
            .lines()
            .filter(|line| !line.trim().starts_with("for:"))
            .fold(String::new(), |text, line| text + line + "\n");
        fs::write(directory.join("alerts.yml"), rules).expect("rules");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yml]\nscrape_configs:\n  \
             - job_name: holdfast\n    static_configs: [{{targets: {targets:?}}}]\n"
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("a configuration");
        let address = format!("127.0.0.1:{}", free_port().await);
        let log = fs::File::create(directory.join("prometheus.log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        Self { child, url: format!("http://{address}") }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        reqwest::get(format!("{}/api/v1/{path}", self.url)).await.ok()?.json().await.ok()
    }

    async fn firing(&self) -> BTreeSet<String> {
        let answer = self.ask("alerts").await.unwrap_or_default();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).map(str::to_owned).collect()
    }

    /// Every rule has been judged anew, on what was seen before.
    async fn until_judged(&self) {
        for _ in 0..2 {
            let judged = async || Some(self.ask("rules").await?["data"]["groups"][0]["lastEvaluation"].clone());
            let before = judged().await;
            until("the rules are judged", async || (judged().await != before).then_some(())).await;
        }
    }

    /// So many messages of a queue have been taken, as Prometheus knows it.
    async fn until_taken(&self, queue: &str, count: usize) {
        let query = format!("query?query=messages_critical_seconds_count%7Bqueue=%22{queue}%22%7D");
        until(&format!("{count} messages of {queue} are counted"), async || {
            let answer = self.ask(&query).await?;
            let taken: usize = answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
            (taken >= count).then_some(())
        })
        .await;
        self.until_judged().await;
    }

    async fn until_firing(&self, alert: &str) {
        until(&format!("{alert} fires"), async || self.firing().await.contains(alert).then_some(())).await;
    }

    /// All targets answer and every queue has been sent and seen a canary, as Prometheus knows it.
    async fn until_all_is_seen(&self, targets: usize, queues: usize) {
        let count = async |query: &str| {
            let answer = self.ask(&format!("query?query={query}")).await?;
            answer["data"]["result"][0]["value"][1].as_str()?.parse::<usize>().ok()
        };
        until("Prometheus sees everything", async || {
            let up = count("sum(up)").await?;
            let canaries = count("count(count%20by%20(queue)%20(canary_seen_timestamp_seconds))").await?;
            (up == targets && canaries == queues).then_some(())
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds until a look at WeChat for an unpaid order: more than a message may be late.
const CHECK_SECONDS: u64 = 12;

/// D8: also a healthy system whose timers wait as long as they are meant to is silent; a worker that lets messages wait as
/// long is told of.
#[tokio::test]
async fn s5_2_prometheus_is_silent_in_health_and_tells_of_faults() {
    let roles: Vec<&'static str> = ["api"].into_iter().chain(WORKERS).chain(["reconcile"]).collect();
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__CANARY_SECONDS", "1".to_owned()),
        ("HOLDFAST_ORDER__CHECK_SECONDS", CHECK_SECONDS.to_string()),
    ];
    let mut stack = Stack::start_with("alerts", Choice { settings, roles, ..Choice::default() }).await;
    let mut targets = Vec::new();
    for worker in ["api"].into_iter().chain(WORKERS).chain(["reconcile"]) {
        targets.push(health_of(&stack, worker).await);
    }
    let prometheus = Prometheus::start(stack.log("prometheus").with_extension("d"), &targets).await;

    prometheus.until_all_is_seen(targets.len(), 13).await;
    // What fired before everything had started is over once everything is seen.
    until("silence", async || prometheus.firing().await.is_empty().then_some(())).await;

    let schedule = stack.add_schedule(20).await;
    let (token, order) = stack.payable("ann", &schedule).await;
    let cancel = stack.request(reqwest::Method::POST, &format!("/v1/orders/{order}/cancel")).bearer_auth(&token);
    assert_eq!(cancel.send().await.expect("an answer").status(), 202);
    // A series counts what comes after it was first seen.
    prometheus.until_taken("expiry", 1).await;
    for user in ["bob", "cid", "dan"] {
        stack.payable(user, &schedule).await;
    }
    prometheus.until_taken("expiry", 5).await;
    assert_eq!(prometheus.firing().await, BTreeSet::new(), "timers that were on time");

    let seats = stack.pid("seats").to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &seats]).status().expect("kill").success());
    signal("-STOP");
    let stopped = std::time::Instant::now();
    for user in ["eve", "fay", "gil", "hal"] {
        let token = stack.quick_token(user);
        stack.submit(&token, &schedule).await;
    }
    until("they are late", async || (stopped.elapsed().as_secs() > CHECK_SECONDS).then_some(())).await;
    signal("-CONT");
    prometheus.until_firing("HoldfastQueueSlow").await;

    Queues::of(&stack).await.put("prepay", "order.held", b"nothing that can be read").await;
    prometheus.until_firing("HoldfastDeadLetters").await;

    stack.kill("payments");
    prometheus.until_firing("HoldfastRoleDown").await;
    prometheus.until_firing("HoldfastNoConsumer").await;

    stack.kill("reconcile");
    prometheus.until_firing("HoldfastNobodyLeads").await;
}
