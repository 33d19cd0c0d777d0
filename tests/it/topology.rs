//! Asking the broker for its queues, for as long as a process lives.

use holdfast::broker::{Link, topology::Topology};

use crate::stack::server_resources::VirtualHost;

#[tokio::test]
async fn a_broker_without_queues_is_seen_so_however_often_it_is_asked() {
    let host = VirtualHost::make().await;
    let link = Link::new(host.amqp_url.clone().into(), "topology test".into());
    let topology = Topology::required();
    let all = topology.queues.len() + topology.exchanges.len();
    // Each "no" closes a channel; after 2 047 channels a connection gives out their numbers again.
    for _ in 0..3 * 2_047 / all {
        let missing = topology.check(&link).await.expect("the broker is here").len();
        assert_eq!(missing, all);
    }
    assert!(topology.apply(&link).await.expect("the broker is here").is_empty());
    link.close().await;
}
