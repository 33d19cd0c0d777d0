//! RabbitMQ as three nodes: the node that leads a queue is killed under load, again and again, and nothing is lost.
//!
//! Run by `./dev test cluster`, which starts the nodes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
// Shared with the other test programs, which use more of it.
#![allow(dead_code)]

#[path = "../it/books.rs"]
mod books;
#[path = "../it/customer.rs"]
mod customer;
#[path = "../it/habits.rs"]
mod habits;
#[path = "../it/load.rs"]
mod load;
#[path = "../it/money.rs"]
mod money;
#[path = "../it/outage.rs"]
mod outage;
#[path = "../it/queues.rs"]
mod queues;
#[path = "../outages/servers.rs"]
mod servers;
#[path = "../it/stack.rs"]
mod stack;
#[path = "../it/story.rs"]
mod story;
#[path = "../it/wire.rs"]
mod wire;

use std::time::Duration;

use reqwest::Client;

use outage::Outage;
use servers::Servers;
use stack::{Answer, PATIENCE, Stack, server_resources::server, until_within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_3_the_leader_of_a_queue_is_killed_under_load() {
    // Three brokers at work on one machine, and none of them quick while another one starts.
    PATIENCE.set(Duration::from_secs(240)).expect("said before anything waits");
    let servers = Servers::ours().await;
    let outage = Outage::prepare("cluster").await;
    for queue in ["orders.0", "payments", "prepay", "expiry"] {
        let leader = three_members(&outage.stack, queue).await;
        // holdfast@localhost is `rabbitmq` for ./dev, holdfast2@localhost is `rabbitmq2`.
        let node = leader.split('@').next().expect("a name").replace("holdfast", "rabbitmq");
        servers.kill(&node, "KILL");
        let after = outage.back_to_work(&format!("after-{queue}")).await;
        println!("{leader} led {queue} and was killed: a booking {after:?} after it");
        servers.start().await;
    }
    outage.end().await;
}

/// Waits until the queue has all its members again; tells which node leads it.
async fn three_members(stack: &Stack, queue: &str) -> String {
    let url = format!("{}/api/queues/{}/{queue}", server("RABBITMQ_MANAGEMENT_URL"), stack.name);
    until_within(Duration::from_secs(120), &format!("{queue} has three members"), async || {
        let told = Answer::try_of(Client::new().get(&url)).await.ok()?.body;
        (told["online"].as_array()?.len() == 3).then(|| told["leader"].as_str().map(ToOwned::to_owned))?
    })
    .await
}
