//! Asking the broker for its queues, for as long as a process lives.

use std::time::Duration;

use holdfast::broker::{Link, topology::Topology};

use crate::{
    stack::{server_resources::VirtualHost, until},
    wire::{Break, SLOW, Wire, place_of_address},
};

#[tokio::test]
async fn a_broker_without_queues_is_seen_so_however_often_it_is_asked() {
    let host = VirtualHost::make().await;
    let link = Link::new(host.amqp_url.clone().into(), "topology test".into());
    let topology = Topology::required();
    let all = topology.queues.len() + topology.exchanges.len();
    // Each "no" closes a channel; after 2 047 channels a connection gives out their numbers again.
    for _ in 0..3 * 2_047 / all {
        let missing = topology.survey(&link).await.expect("the broker is here").differences.len();
        assert_eq!(missing, all);
    }
    assert!(topology.apply(&link).await.expect("the broker is here").is_empty());
    link.close().await;
}

#[tokio::test]
async fn a_broker_that_takes_long_to_make_a_queue_is_waited_for() {
    let host = VirtualHost::make().await;
    let wire = Wire::to(place_of_address(&host.amqp_url).2).await;
    wire.becomes(SLOW);
    let link = Link::new(wire.over(&host.amqp_url).into(), "topology test".into());
    let applied = tokio::spawn(async move { Topology::required().apply(&link).await });
    let (directly, queues) =
        (Link::new(host.amqp_url.clone().into(), "look".into()), Topology::required().queues.len());
    until("the first queue is made", async || {
        let missing = Topology::required().survey(&directly).await.expect("the broker is here").differences.len();
        (missing < queues).then_some(())
    })
    .await;
    assert!(!applied.is_finished());
    // Longer than the broker may take for anything else.
    wire.broken(Break::Stalled, Duration::from_secs(7)).await;
    assert_eq!(applied.await.expect("no panic").expect("the broker is here"), []);
}
