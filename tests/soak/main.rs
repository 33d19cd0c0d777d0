//! A long run: customers with every ending, at a WeChat that goes wrong, while processes and servers are killed and wires
//! broken at random. One seed, one run of breaks. At the end the books, WeChat's ledger, the queues, memory and
//! connections are judged.
//!
//! `./dev soak MINUTES SEED` lends it servers that nobody else uses. Its figures are in `target/soak.json`.

#![allow(clippy::unwrap_used, reason = "a program that cannot go on may stop")]
// Shared with the tests, which use more of it.
#![allow(dead_code)]

#[path = "../it/books.rs"]
mod books;
mod chaos;
#[path = "../it/customer.rs"]
mod customer;
mod gauge;
#[path = "../it/habits.rs"]
mod habits;
mod judge;
#[path = "../it/load.rs"]
mod load;
#[path = "../it/money.rs"]
mod money;
#[path = "../it/queues.rs"]
mod queues;
#[path = "../outages/servers.rs"]
mod servers;
#[path = "../it/stack.rs"]
mod stack;
#[path = "../it/story.rs"]
mod story;
mod twins;
#[path = "../it/wire.rs"]
mod wire;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::interval};

use chaos::Chaos;
use gauge::Gauge;
use habits::{every_ending, weather};
use load::{Load, SEATS};
use servers::Servers;
use stack::{Choice, PATIENCE, Stack, checkout};
use twins::Twins;
use wire::Wires;

/// Customers on their way at the same time.
const AT_ONCE: usize = 16;
/// Longest that a customer may have to wait when one server after the other is away.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const SAMPLE: Duration = Duration::from_secs(10);
/// Samples between two lines of progress.
const LINE: u32 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [minutes, seed] = arguments[..] else {
        eprintln!("usage: ./dev soak MINUTES SEED");
        return ExitCode::from(2);
    };
    PATIENCE.set(LONGEST_WAIT).expect("said before anything waits");
    let findings = run(Duration::from_secs(60 * minutes), seed).await;
    for finding in &findings {
        println!("FOUND  {finding}");
    }
    println!("{}", if findings.is_empty() { "clean" } else { "NOT clean" });
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(length: Duration, seed: u64) -> Vec<String> {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("soak", Choice { roles: Vec::new(), ..every_ending() }).await;
    // Sessions are added past the wires, since the load must not wait for them.
    let environment = stack.environment.clone();
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(stack.add_schedule(SEATS).await);
    }
    let wires = Wires::under(&mut stack).await;
    for role in every_ending().roles {
        stack.spawn(role);
    }
    stack.until_ready().await;
    let twins = Twins::of(&stack).await;
    stack.script(&weather(usize::try_from(seed).unwrap_or(0))).await;

    let load = Load::on(&stack, &[stack.api.clone(), twins.api.clone()], sessions, AT_ONCE);
    let mut gauge = Gauge::of(&stack);
    let chaos: JoinHandle<Chaos> = tokio::spawn(Chaos::new(seed, servers, wires, twins).reign(length));
    let began = Instant::now();
    let mut tick = interval(SAMPLE);
    for number in 0.. {
        tick.tick().await;
        if chaos.is_finished() {
            break;
        }
        add_sessions(&stack, &environment, &load).await;
        gauge.sample().await;
        if number % LINE == 0 {
            println!("{}  {}", clock(began.elapsed()), gauge.line().await);
        }
    }
    let mut chaos = chaos.await.expect("chaos ends in order");
    let breaks = chaos.ends().await;
    println!("{}  {} breaks are over; everything comes to its end", clock(began.elapsed()), breaks.len());

    let (orders, let_down) = load.ends().await;
    let mut findings: Vec<String> = let_down.iter().map(|words| format!("a customer was let down: {words}")).collect();
    let verdict = judge::of(&stack).await;
    findings.extend(verdict.findings);
    let flatness = gauge.flatness();
    findings.extend(flatness.findings);
    println!("{}\n{}", verdict.table, flatness.table);
    let report = json!({
        "minutes": length.as_secs() / 60, "seed": seed, "orders": orders, "breaks": chaos.counts(), "endings": verdict.endings,
        "resources": flatness.figures, "findings": findings, "clean": findings.is_empty(),
        "log": breaks,
    });
    let file = checkout("target/soak.json");
    std::fs::write(&file, serde_json::to_string_pretty(&report).expect("plain values")).expect("a file");
    println!("{orders} orders, {} breaks: {:?}\nfigures: target/soak.json", breaks.len(), chaos.counts());
    findings
}

/// Adds sessions as an operator would, past the wires; when their servers are away, the next tick does.
async fn add_sessions(stack: &Stack, environment: &BTreeMap<String, String>, load: &Load) {
    while load.wants_sessions() {
        let mut command = stack.command(&["schedule", "add", "--json", "--capacity", &SEATS.to_string()]);
        command.envs(environment);
        let output = tokio::task::spawn_blocking(move || command.output().expect("the executable starts"));
        let added: Value = serde_json::from_slice(&output.await.expect("waited").stdout).unwrap_or_default();
        let Some(schedule) = added["schedule_id"].as_str() else {
            return;
        };
        load.sessions.write().expect("whole").push(schedule.to_owned());
    }
}

fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}
