//! The edges of the pipeline, each alone: RabbitMQ's confirms, the ingress's 202s, RSA signatures; and a burst.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use futures_util::future::try_join_all;
use holdfast::broker::{Link, topology::Topology};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    crowd::{Customer, percentiles},
    machine, quiet,
    stack::{Choice, Stack, server_resources::VirtualHost, until_within},
};

/// Signatures as WeChat Pay wants them, on one core.
pub(crate) fn rsa_sign_per_s(length: Duration) -> f64 {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let (mut signature, message) = (vec![0; key.public_modulus_len()], [7; 300]);
    let (began, mut signed) = (Instant::now(), 0_u32);
    while began.elapsed() < length {
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).expect("a signature");
        signed += 1;
    }
    f64::from(signed) / began.elapsed().as_secs_f64()
}

/// Channels that publish, and how many publishes each has in flight: more gave no more.
const CHANNELS: usize = 4;
const IN_FLIGHT: usize = 256;
/// As large as an order on its way.
const BODY: [u8; 350] = [b'x'; 350];

/// Persistent messages of our size to one quorum queue of ours, each confirmed; nothing of holdfast in between.
pub(crate) async fn publish_confirms_per_s(length: Duration) -> f64 {
    let host = VirtualHost::make().await;
    let link = Link::new(host.amqp_url.clone().into(), "bench topology".into());
    assert_eq!(Topology::required().apply(&link).await.expect("a broker"), []);
    let connection = lapin::Connection::connect(&host.amqp_url, lapin::ConnectionProperties::default());
    let connection = connection.await.expect("a broker");
    let mut channels = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CHANNELS {
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channels.spawn(async move {
            let mut confirmed = 0_usize;
            while began.elapsed() < length {
                // Side by side, as holdfast does it: lapin is done with a publish when it is written.
                let sends = (0..IN_FLIGHT).map(|_| {
                    let persistent = BasicProperties::default().with_delivery_mode(2);
                    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                    channel.basic_publish("".into(), "prepay".into(), options, &BODY, persistent)
                });
                let confirms = try_join_all(sends).await.expect("sent");
                for confirm in confirms {
                    assert!(confirm.await.expect("a word").is_ack());
                    confirmed += 1;
                }
            }
            confirmed
        });
    }
    let confirmed: usize = channels.join_all().await.into_iter().sum();
    let per_s = confirmed as f64 / began.elapsed().as_secs_f64();
    let _ = connection.close(200, "done".into()).await;
    per_s
}

/// Orders taken by the ingress alone, no worker running: at 100 and at 1 000 connections, each with one click at a
/// time. Tells rate, waiting times, and the CPU that one 202 costs each process.
pub(crate) async fn ingress(length: Duration) -> Vec<Value> {
    let choice = Choice { settings: quiet(), roles: vec!["api"], ..Choice::default() };
    let stack = Stack::start_with("bench_ingress", choice).await;
    let schedule = stack.add_schedule(1_000).await;
    let mut roles = machine::servers();
    roles.insert("api".into(), stack.pid("api"));
    let mut found = Vec::new();
    for connections in [100, 1_000] {
        let before = machine::Snapshot::now(&roles);
        let (began, mut clicking) = (Instant::now(), JoinSet::new());
        for number in 0..connections {
            let (mut customer, schedule) = (Customer::of(&stack, &format!("line-{number}")), schedule.clone());
            clicking.spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < length {
                    let clicked = Instant::now();
                    let (status, body) = customer.click(&schedule, &Uuid::now_v7().to_string(), false).await;
                    assert_eq!(status, 202, "{body}");
                    times.push(clicked.elapsed());
                }
                times
            });
        }
        let times: Vec<Duration> = clicking.join_all().await.into_iter().flatten().collect();
        let (count, took) = (times.len() as f64, began.elapsed());
        let mut used = machine::Used::default();
        used.add(&before, &machine::Snapshot::now(&roles), count);
        found.push(json!({
            "connections": connections, "per_s": (count / took.as_secs_f64()).round(), "ms": percentiles(&times),
            "cpu_ms_each": used.cpu_ms_each(),
        }));
    }
    found
}

/// Far more requests than seats, as fast as 500 connections bring them.
pub(crate) async fn burst(requests: u64, seats: u32) -> Value {
    let stack = Stack::start_with("bench_burst", Choice { settings: quiet(), ..Choice::default() }).await;
    let schedule = stack.add_schedule(seats).await;
    // Each request is a customer's own: of a customer's refusals in one session only the first is stored.
    let tokens: Arc<Vec<String>> =
        Arc::new((0..requests).map(|number| stack.quick_token(&format!("burst-{number}"))).collect());
    let (next, began, mut clicking) = (Arc::new(AtomicUsize::new(0)), Instant::now(), JoinSet::new());
    for number in 0..500 {
        let (mut customer, schedule) = (Customer::of(&stack, &format!("burst-line-{number}")), schedule.clone());
        let (next, tokens) = (next.clone(), tokens.clone());
        clicking.spawn(async move {
            let mut times = Vec::new();
            while let Some(token) = tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
                customer.become_holder_of(token);
                let clicked = Instant::now();
                let (status, body) = customer.click(&schedule, &Uuid::now_v7().to_string(), false).await;
                assert_eq!(status, 202, "{body}");
                times.push(clicked.elapsed());
            }
            times
        });
    }
    let times: Vec<Duration> = clicking.join_all().await.into_iter().flatten().collect();
    let taken = began.elapsed();
    let wanted = i64::try_from(requests).expect("few");
    until_within(Duration::from_secs(180), "every request is decided", async || {
        (stack.count("SELECT count(*) FROM payment_orders").await == wanted).then_some(())
    })
    .await;
    let decided = began.elapsed();
    let seated = stack.count("SELECT count(*) FROM seat_reservations WHERE status = 'temporary'").await;
    assert_eq!(seated, i64::from(seats), "each seat has one order");
    until_within(Duration::from_secs(180), "every seat has its code", async || {
        (stack.count("SELECT count(*) FROM payment_orders WHERE status = 'held'").await == 0).then_some(())
    })
    .await;
    let coded = began.elapsed();
    stack.check_invariants().await;
    let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
    json!({
        "requests": requests, "seats": seats, "answer_ms": percentiles(&times),
        "all_taken_s": seconds(taken), "all_decided_s": seconds(decided), "all_codes_s": seconds(coded),
        "sold": seated, "rejected": wanted - seated,
    })
}
