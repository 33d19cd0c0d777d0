//! What a network can do to each connection, while a hundred bookings of every ending run: nothing is lost, nothing
//! parked, and afterwards work goes on without help.

use std::time::Duration;

use crate::{
    outage::Outage,
    wire::{BREAKS, Break, Wire, Wires},
};

/// Long enough to run into every limit there is on a single call.
fn time_of(how: Break) -> Duration {
    Duration::from_secs(match how {
        _ if how.is_momentary() => 0,
        Break::Stalled => 7,
        _ => 3,
    })
}

async fn broken_in_every_way(test: &str, wire: fn(&Wires) -> &Wire) {
    let outage = Outage::prepare(test).await;
    for (number, how) in BREAKS.into_iter().enumerate() {
        let time = time_of(how);
        wire(&outage.wires).broken(how, time).await;
        let after = outage.back_to_work(&format!("after-{number}")).await;
        println!("{test}: {how:?} for {time:?}, a booking {after:?} after it");
    }
    outage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_the_database_breaks_in_every_way() {
    broken_in_every_way("wire_postgresql", |wires| &wires.postgresql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_the_broker_breaks_in_every_way() {
    broken_in_every_way("wire_rabbitmq", |wires| &wires.rabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_redis_breaks_in_every_way() {
    broken_in_every_way("wire_redis", |wires| &wires.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_wechat_breaks_in_every_way() {
    broken_in_every_way("wire_wechat", |wires| &wires.wechat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_two_servers_are_away_at_once() {
    let outage = Outage::prepare("wire_pairs").await;
    let wires = outage.wires.named();
    for (first, (one, wire)) in wires.iter().enumerate() {
        for (other, second) in &wires[first + 1..] {
            let time = Duration::from_secs(2);
            tokio::join!(wire.broken(Break::Refused, time), second.broken(Break::Stalled, time));
            let after = outage.back_to_work(&format!("after-{one}-and-{other}")).await;
            println!("{one} refuses and {other} stalls for {time:?}, a booking {after:?} after it");
        }
    }
    outage.end().await;
}
