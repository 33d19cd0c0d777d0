//! `./dev bench`: what a journey from click to confirmed seat takes, on a stack of real processes, beside what
//! PostgreSQL, RabbitMQ and RSA can do alone on the same machine in the same minutes.
//!
//! Customers and the WeChat simulator run on the same machine (in this process, each on threads of their own) and take
//! CPU from what they measure: the numbers are what this machine does with both sides on it.
//!
//! `--quick` measures the same in less than a minute, less exactly; `--write-docs` puts the table into
//! `docs/benchmarks.md`; a part's name (`signatures`, `publishes`, `ingress`, `journeys`, `growth`, `burst`) measures
//! that part alone and leaves the others in `target/bench.json` as they were. What could not be measured is `null` there;
//! the other parts are measured all the same, and the run fails at its end with every reason.

// Statistics for people; no money is counted here.
#![allow(clippy::float_arithmetic)]

mod books;
mod crowd;
mod edge;
mod growth;
mod machine;
mod report;
// Shared with the tests, which use more of it.
#[allow(dead_code)]
#[path = "../../tests/it/stack.rs"]
mod stack;
mod statements;
mod wire;

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::LazyLock,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Handle};

use crate::stack::{Choice, Stack, WORKERS};

/// Customers who each begin anew when done, in the runs that show how many journeys there can be.
const BUSY_CUSTOMERS: usize = 64;
/// Customers who are there at the same time in the run that shows how long a code takes.
const STEADY_CUSTOMERS: usize = 100;

const PARTS: [&str; 6] = ["signatures", "publishes", "ingress", "journeys", "growth", "burst"];

/// How long each measurement lasts.
struct Lengths {
    slices: u32,
    slice: Duration,
    pgbench: Duration,
    steady: Duration,
    edge: Duration,
    growth: Vec<i64>,
    growth_slice: Duration,
    burst: (u64, u32),
}

impl Lengths {
    fn full() -> Self {
        let seconds = Duration::from_secs;
        Self {
            slices: 4,
            slice: seconds(12),
            pgbench: seconds(4),
            steady: seconds(20),
            edge: seconds(6),
            growth: vec![0, 1_000_000, 5_000_000],
            growth_slice: seconds(6),
            burst: (20_000, 500),
        }
    }

    fn quick() -> Self {
        let seconds = Duration::from_secs;
        Self {
            slices: 1,
            slice: seconds(4),
            pgbench: seconds(1),
            steady: seconds(2),
            edge: seconds(1),
            growth: vec![100_000],
            growth_slice: Duration::from_millis(300),
            burst: (2_000, 50),
        }
    }
}

/// Tells on standard error what was found, and when: a run takes minutes.
pub(crate) fn say(words: &str) {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    eprintln!("{:>5.0} s  {words}", BEGAN.elapsed().as_secs_f64());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test --benches` asks every benchmark whether it runs, not how fast.
    if !given("--bench") {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let named: Vec<&str> = PARTS.into_iter().filter(|part| given(part)).collect();
    let unknown = |argument: &&String| {
        !["--bench", "--quick", "--write-docs"].contains(&argument.as_str()) && !PARTS.contains(&argument.as_str())
    };
    if let Some(unknown) = arguments.iter().find(unknown) {
        eprintln!("./dev bench {unknown}: known are --quick, --write-docs and {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let lengths = if given("--quick") { Lengths::quick() } else { Lengths::full() };
    let mut report = if named.is_empty() { report::empty() } else { report::read().unwrap_or_else(report::empty) };
    say("measuring; the machine should have nothing else to do");
    let mut machine = report.get("machine").filter(|machine| machine.is_object()).cloned().unwrap_or_else(|| json!({}));
    machine.as_object_mut().expect("an object").extend(machine::describe());
    machine["quick"] = json!(given("--quick"));
    report.insert("machine".into(), machine);
    let runtime = |name: &str| Builder::new_multi_thread().worker_threads(4).enable_all().thread_name(name).build();
    // The simulator's threads have their own name, so that its share of the CPU can be told.
    let simulator = runtime("simulator").expect("a runtime");
    let simulators = simulator.handle().clone();
    let parts = if named.is_empty() { PARTS.to_vec() } else { named };
    let failures =
        runtime("customers").expect("a runtime").block_on(measure(&mut report, &parts, &lengths, &simulators));
    say("written to target/bench.json");
    simulator.shutdown_background();
    print!("{}", report::table(&report));
    if given("--write-docs") {
        report::write_docs(&report);
    }
    if !failures.is_empty() {
        eprintln!("not everything was measured:\n{}", failures.join("\n"));
        std::process::exit(1);
    }
}

/// The reasons why something could not be measured; a part that fails leaves the others alone.
async fn measure(
    report: &mut Map<String, Value>,
    parts: &[&str],
    lengths: &Lengths,
    simulators: &Handle,
) -> Vec<String> {
    let mut failures = Vec::new();
    for part in parts {
        // What an earlier run found is not this run's.
        for key in report::keys_of(part) {
            report.insert((*key).to_owned(), Value::Null);
        }
        match AssertUnwindSafe(measure_part(report, part, lengths, simulators)).catch_unwind().await {
            Ok(found) => failures.extend(found.into_iter().map(|failure| format!("{part}: {failure}"))),
            Err(panic) => failures.push(format!("{part}: {}", words_of(panic.as_ref()))),
        }
        ratios(report);
        // What is measured stays, whatever becomes of the next part.
        report::write(report);
    }
    failures
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

async fn measure_part(
    report: &mut Map<String, Value>,
    part: &str,
    lengths: &Lengths,
    simulators: &Handle,
) -> Vec<String> {
    match part {
        "signatures" => {
            let per_s = edge::rsa_sign_per_s(lengths.edge / 2);
            say(&format!("{per_s:.0} RSA-2048 signatures/s on one core"));
            report.insert("rsa_sign_per_s".into(), json!(per_s.round()));
        }
        "publishes" => {
            let per_s = edge::publish_confirms_per_s(lengths.edge).await;
            say(&format!("{per_s:.0} confirmed publishes/s to one quorum queue"));
            report.insert("publish_confirms_per_s".into(), json!(per_s.round()));
        }
        "ingress" => {
            let found = edge::ingress(lengths.edge).await;
            for one in &found {
                let (connections, per_s, p99) = (&one["connections"], &one["per_s"], &one["ms"]["p99"]);
                say(&format!("{per_s} orders answered 202/s at {connections} connections, p99 {p99} ms"));
            }
            let best = found.iter().filter_map(|one| one["per_s"].as_f64()).fold(0.0, f64::max);
            report.insert("ingress_202_per_s".into(), json!(best));
            report.insert("ingress".into(), found.into());
        }
        "journeys" => return journeys(report, lengths, simulators).await,
        "growth" => {
            let (sizes, slice) = (lengths.growth.clone(), lengths.growth_slice);
            let grown = simulators.spawn(async move { growth::growth(&sizes, slice, BUSY_CUSTOMERS).await });
            report.insert("growth".into(), grown.await.expect("growth"));
        }
        _ => {
            let (requests, seats) = lengths.burst;
            let burst = edge::burst(requests, seats).await;
            say(&format!("burst: {burst}"));
            report.insert("burst".into(), burst);
        }
    }
    Vec::new()
}

fn ratios(report: &mut Map<String, Value>) {
    let number = |name: &str| report.get(name).and_then(Value::as_f64);
    let ratio = |of: Option<f64>, to: Option<f64>| Some(((of? / to?) * 100.0).round() / 100.0);
    let pgbench = ratio(number("journeys_per_s"), number("pgbench_journeys_per_s"));
    let publish = ratio(number("ingress_202_per_s"), number("publish_confirms_per_s"));
    report.insert("ratio_pgbench".into(), json!(pgbench));
    report.insert("ratio_publish".into(), json!(publish));
}

/// Whole journeys and their SQL alone, in turns; then how long a journey takes when there is room. Tells why the SQL alone
/// could not be measured.
async fn journeys(report: &mut Map<String, Value>, lengths: &Lengths, simulators: &Handle) -> Vec<String> {
    let mut failures = Vec::new();
    let mut pgbench = books::Pgbench::prepare(lengths.slices * 3).await.unwrap_or_else(|unknown| {
        let known_in = "benches/journeys/statements.rs does not know the parameters of";
        failures.extend(unknown.iter().map(|statement| format!("{known_in}: {statement}")));
        None
    });
    let choice = Choice { settings: quiet(), ..Choice::default() };
    let started = simulators.spawn(async move { Stack::start_with("bench", choice).await });
    let stack = started.await.expect("a stack");
    crowd::at_once(&stack, 50).await;
    crowd::busy(&stack, BUSY_CUSTOMERS, lengths.slice / 3).await;

    let mut roles = machine::servers();
    for role in ["api"].into_iter().chain(WORKERS) {
        roles.insert(role.to_owned(), stack.pid(role));
    }
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    let mut used = machine::Used::default();
    for _ in 0..lengths.slices {
        let before = machine::Snapshot::now(&roles);
        let run = crowd::busy(&stack, BUSY_CUSTOMERS, lengths.slice).await;
        used.add(&before, &machine::Snapshot::now(&roles), run.count());
        say(&format!("{BUSY_CUSTOMERS} customers without a pause: {}", run.words()));
        whole.push(run.per_s());
        if let Some(running) = &mut pgbench {
            let found = match running.run(lengths.pgbench).await {
                Ok(found) => found,
                Err(failure) => {
                    failures.push(failure);
                    alone.clear();
                    pgbench = None;
                    continue;
                }
            };
            let words: Vec<String> =
                found.iter().map(|(clients, per_s)| format!("{per_s:.0} at {clients} clients")).collect();
            say(&format!("the SQL of a journey alone: {} /s", words.join(", ")));
            alone.push(found.iter().map(|(_, per_s)| *per_s).fold(0.0, f64::max));
        }
    }
    let stable = median(&mut whole);
    report.insert("journeys_per_s".into(), json!(stable.round()));
    report.insert("pgbench_journeys_per_s".into(), json!((!alone.is_empty()).then(|| median(&mut alone).round())));
    if let Some(pgbench) = &pgbench {
        let sql = json!({ "statements": pgbench.statements, "transactions": pgbench.transactions });
        report.insert("journey_sql".into(), sql);
    }
    report.insert("cpu_ms_per_journey".into(), used.cpu_ms_each());
    report.insert("rss_mib".into(), json!(machine::rss_mib(&roles)));
    report["machine"]["busy_percent"] = json!(used.busy_percent());
    report["machine"]["ours_percent"] = json!(used.ours_percent());
    drop(pgbench);

    // A hundred customers, each of whom begins a journey a second.
    let hundred = (STEADY_CUSTOMERS as f64).min(stable * 0.7);
    let run = crowd::steady(&stack, hundred, lengths.steady).await;
    say(&format!("{STEADY_CUSTOMERS} customers, {hundred:.0} journeys begun per second: {}", run.words()));
    report.insert("click_to_qr_ms".into(), run.click_to_qr_ms());
    let run = crowd::steady(&stack, stable / 2.0, lengths.steady).await;
    say(&format!("half the stable rate, {:.0} journeys begun per second: {}", stable / 2.0, run.words()));
    report.insert("callback_to_confirmed_ms".into(), run.paid_to_confirmed_ms());
    let run = crowd::at_once(&stack, STEADY_CUSTOMERS).await;
    say(&format!("{STEADY_CUSTOMERS} customers in the same instant: {}", run.words()));
    let at_once =
        json!({ "click_to_qr_ms": run.click_to_qr_ms(), "callback_to_confirmed_ms": run.paid_to_confirmed_ms() });
    report.insert("at_once".into(), at_once);
    stack.check_invariants().await;
    failures
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Logs as in production, and no limit that is meant for one customer.
pub(crate) fn quiet() -> Vec<(&'static str, String)> {
    vec![
        ("HOLDFAST_LOG__FILTER", "warn,holdfast::process=info".into()),
        ("HOLDFAST_DATABASE__MAX_CONNECTIONS", "16".into()),
        ("HOLDFAST_API__ORDERS_PER_SECOND", "1000000".into()),
        ("HOLDFAST_API__ORDERS_BURST", "1000000".into()),
        ("HOLDFAST_ORDER__UNPAID_PER_CUSTOMER", "100000".into()),
        ("HOLDFAST_ORDER__SEATS_PER_CUSTOMER", "100000".into()),
    ]
}
