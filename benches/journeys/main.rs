//! `./dev bench`: what a journey from click to confirmed seat takes, on a stack of real processes.
//!
//! Prints a table and writes `target/bench.json`; what a field means is said where it is measured, and `null` is
//! what is not measured yet. Customers and the WeChat simulator run in this process and on the same machine, so
//! they take CPU from what they measure: the numbers are what this machine does with both sides on it.

// Statistics for people; no money is counted here.
#![allow(clippy::float_arithmetic)]

#[path = "../../tests/it/customer.rs"]
mod customer;
mod machine;
// Shared with the tests, which use more of it.
#[allow(dead_code)]
#[path = "../../tests/it/stack.rs"]
mod stack;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use holdfast::{
    broker::{Broker, Link, TraceParent, topology::Topology},
    domain::{
        ids::OrderId,
        message::{Message, OrderHeld},
    },
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    customer::Customer,
    stack::{Choice, Stack, WORKERS, server_resources::VirtualHost},
};

const BURST: usize = 100;
/// Journeys begun per second in the steady run, whatever became of those before.
const STEADY_PER_S: u32 = 20;
/// Customers who each begin anew when done, in the run that shows how many journeys there can be.
const BUSY_CUSTOMERS: usize = 64;
const RUN: Duration = Duration::from_secs(15);
/// How long publishing and taking orders are measured.
const SHORT_RUN: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    // `cargo test --benches` asks every benchmark whether it runs, not how fast.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut machine = machine::describe();
    let publish = publish_confirms_per_s().await;
    println!("publishes confirmed   {publish:>8.0} /s");
    let ingress = ingress_202_per_s().await;
    println!("orders answered 202   {ingress:>8.0} /s");

    let stack = Stack::start_with("bench", Choice { settings: quiet(), ..Choice::default() }).await;
    journeys(&stack, "warm-up", 50).await;
    let burst = journeys(&stack, "burst", BURST).await;
    burst.print(&format!("{BURST} customers at once"));
    let steady = steady(&stack).await;
    steady.print(&format!("{STEADY_PER_S} journeys begun per second"));

    let mut roles = machine::servers();
    for role in ["api"].into_iter().chain(WORKERS) {
        roles.insert(role.to_owned(), stack.pid(role));
    }
    roles.insert("bench+simulator".to_owned(), std::process::id());
    let (before, all_before) = (machine::cpu_ms(&roles), machine::busy_of_all());
    let busy = busy(&stack).await;
    let (used, all_used) = (machine::cpu_ms(&roles), machine::busy_of_all());
    busy.print(&format!("{BUSY_CUSTOMERS} customers without a pause"));
    let count = busy.click_to_qr.len() as f64;
    let per_s = count / busy.took.as_secs_f64();
    println!("journeys              {per_s:>8.1} /s");

    let mut cpu: BTreeMap<String, f64> =
        used.iter().map(|(role, ms)| (role.clone(), (ms - before[role]) as f64 / count)).collect();
    let rss = machine::rss_mib(&roles);
    println!("{:<20} {:>12} {:>8}", "role", "CPU ms each", "MiB");
    for (role, ms) in &cpu {
        println!("{role:<20} {ms:>12.2} {:>8}", rss[role]);
    }
    let others = ["bench+simulator"];
    let total = cpu.iter().filter(|(role, _)| !others.contains(&role.as_str())).map(|(_, ms)| ms).sum();
    cpu.insert("total".to_owned(), total);
    println!("{:<20} {total:>12.2}", "total without bench");

    // What bounds the journeys per second: a machine with nothing left, and who else had a share of it.
    let there = (all_used.1 - all_before.1) as f64 / 100.0;
    let busy_percent = (all_used.0 - all_before.0) as f64 / there;
    let ours_ms: u64 = used.iter().map(|(role, ms)| ms - before[role]).sum();
    let ours_percent = ours_ms as f64 / 10.0 / there;
    println!(
        "the machine's CPU was busy to {busy_percent:.0} %, with this benchmark and its stack to {ours_percent:.0} %"
    );
    machine["busy_percent"] = json!(busy_percent.round());
    machine["ours_percent"] = json!(ours_percent.round());

    stack.check_invariants().await;
    let report = json!({
        "journeys_per_s": per_s,
        "pgbench_journeys_per_s": null,
        "ratio_pgbench": null,
        "publish_confirms_per_s": publish,
        "ingress_202_per_s": ingress,
        "ratio_publish": ingress / publish,
        "click_to_qr_ms": steady.click_to_qr_ms(),
        "callback_to_confirmed_ms": steady.paid_to_confirmed_ms(),
        "cpu_ms_per_journey": cpu,
        "rsa_sign_per_s": null,
        "rss_mib": rss,
        "growth": null,
        "burst": { "customers": BURST, "click_to_qr_ms": burst.click_to_qr_ms(),
                   "callback_to_confirmed_ms": burst.paid_to_confirmed_ms() },
        "machine": machine,
    });
    let file = stack::checkout("target/bench.json");
    std::fs::write(&file, format!("{report:#}\n")).expect("target/ can be written");
    println!("written to {}", file.display());
}

/// Logs as in production, and no limit that is meant for one customer.
fn quiet() -> Vec<(&'static str, String)> {
    vec![
        ("HOLDFAST_LOG__FILTER", "warn".into()),
        ("HOLDFAST_DATABASE__MAX_CONNECTIONS", "16".into()),
        ("HOLDFAST_API__ORDERS_PER_SECOND", "1000000".into()),
        ("HOLDFAST_API__ORDERS_BURST", "1000000".into()),
    ]
}

/// What a run of journeys took.
#[derive(Default)]
struct Run {
    click_to_qr: Vec<Duration>,
    /// From the payment at WeChat, whose callback leaves at once, to the event that the customer's page hears.
    paid_to_confirmed: Vec<Duration>,
    took: Duration,
}

impl Run {
    fn add(&mut self, (click_to_qr, paid_to_confirmed): (Duration, Duration)) {
        self.click_to_qr.push(click_to_qr);
        self.paid_to_confirmed.push(paid_to_confirmed);
    }

    fn click_to_qr_ms(&self) -> Value {
        percentiles(&self.click_to_qr)
    }

    fn paid_to_confirmed_ms(&self) -> Value {
        percentiles(&self.paid_to_confirmed)
    }

    fn print(&self, what: &str) {
        println!("\n{what}: {} journeys in {:.1} s", self.click_to_qr.len(), self.took.as_secs_f64());
        for (name, times) in [("click → QR code", &self.click_to_qr), ("paid → confirmed", &self.paid_to_confirmed)]
        {
            let ms = percentiles(times);
            println!("{name:<20}  p50 {:>7} ms  p99 {:>7} ms", ms["p50"].to_string(), ms["p99"].to_string());
        }
    }
}

fn percentiles(times: &[Duration]) -> Value {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        sorted.get((sorted.len().max(1) - 1) * percent / 100).map(|time| time.as_micros() as f64 / 1e3)
    };
    json!({ "p50": at(50), "p99": at(99) })
}

async fn journey(customer: &Customer, schedule: &str) -> (Duration, Duration) {
    let (answer, click_to_qr) = customer.order(schedule, None).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let order = answer.body["order_id"].as_str().expect("an id");
    let began = Instant::now();
    let (_, ()) = tokio::join!(customer.until_status(order, "confirmed"), customer.pay(order));
    (click_to_qr, began.elapsed())
}

/// All at once.
async fn journeys(stack: &Stack, name: &str, count: usize) -> Run {
    let schedule = stack.add_schedule(u32::try_from(count).expect("a room's size")).await;
    let customers = Customer::crowd(stack, name, count);
    let began = Instant::now();
    let mut run = Run::default();
    join_all(customers.iter().map(|customer| journey(customer, &schedule)))
        .await
        .into_iter()
        .for_each(|one| run.add(one));
    run.took = began.elapsed();
    run
}

/// At a rate, whatever became of those before: who is slow does not slow down the arrivals.
async fn steady(stack: &Stack) -> Run {
    let count = STEADY_PER_S * u32::try_from(RUN.as_secs()).expect("seconds");
    let schedule = stack.add_schedule(count).await;
    let customers = Customer::crowd(stack, "steady", count as usize);
    let mut beat = tokio::time::interval(Duration::from_secs(1) / STEADY_PER_S);
    let began = Instant::now();
    let mut journeys = JoinSet::new();
    for customer in customers {
        beat.tick().await;
        let schedule = schedule.clone();
        journeys.spawn(async move { journey(&customer, &schedule).await });
    }
    let mut run = Run::default();
    journeys.join_all().await.into_iter().for_each(|one| run.add(one));
    run.took = began.elapsed();
    run
}

/// As many as there can be: each customer begins the next journey when one is done, over eight sessions.
async fn busy(stack: &Stack) -> Run {
    let mut schedules = Vec::new();
    for _ in 0..8 {
        schedules.push(stack.add_schedule(20_000).await);
    }
    let began = Instant::now();
    let mut customers = JoinSet::new();
    for (number, customer) in Customer::crowd(stack, "busy", BUSY_CUSTOMERS).into_iter().enumerate() {
        let schedule = schedules[number % schedules.len()].clone();
        customers.spawn(async move {
            let mut run = Run::default();
            for click in 0.. {
                if began.elapsed() >= RUN {
                    break;
                }
                run.add(journey(&customer.with_key(&format!("click-{click}")), &schedule).await);
            }
            run
        });
    }
    let mut all = Run::default();
    for run in customers.join_all().await {
        all.click_to_qr.extend(run.click_to_qr);
        all.paid_to_confirmed.extend(run.paid_to_confirmed);
    }
    all.took = began.elapsed();
    all
}

/// Messages of our size, published by many tasks through one publisher to one quorum queue.
async fn publish_confirms_per_s() -> f64 {
    let host = VirtualHost::make().await;
    let link = Link::new(host.amqp_url.clone().into(), "bench topology".into());
    assert_eq!(Topology::required().apply(&link).await.expect("a broker"), []);
    let broker = Broker::start(&host.amqp_url.clone().into(), "bench", Duration::from_secs(10));
    let (began, confirmed) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..512 {
        let (publisher, confirmed) = (broker.publisher.clone(), confirmed.clone());
        tasks.spawn(async move {
            let trace = TraceParent::new([7; 24]);
            let order_id = OrderId::try_from(format!("hf{task:08}")).expect("an id");
            let message = Message::OrderHeld(OrderHeld { order_id });
            while began.elapsed() < SHORT_RUN {
                publisher.publish(&message, &trace).await.expect("confirmed");
                confirmed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    confirmed.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Orders taken by the ingress alone, no worker running: place after place in the line.
async fn ingress_202_per_s() -> f64 {
    let stack =
        Stack::start_with("bench_ingress", Choice { settings: quiet(), roles: vec!["api"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(1_000).await;
    let (began, taken) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for customer in Customer::crowd(&stack, "line", 256) {
        let (schedule, taken) = (schedule.clone(), taken.clone());
        tasks.spawn(async move {
            for click in 0.. {
                if began.elapsed() >= SHORT_RUN {
                    break;
                }
                customer.with_key(&format!("click-{click}")).submit(&schedule, None).await;
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    taken.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}
