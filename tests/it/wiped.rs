//! Redis emptied and RabbitMQ's queues deleted in the middle of a crowd: late perhaps, lost nothing.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use crate::{
    customer::Customer,
    degraded::empty_cache,
    queues::Queues,
    reconcile::queue_names,
    stack::{Choice, Stack, WORKERS, until},
};

const CUSTOMERS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_rabbitmq_wiped_in_the_middle() {
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "2".to_owned()),
        ("HOLDFAST_ORDER__CHECK_SECONDS", "2".to_owned()),
    ];
    let roles = ["api"].into_iter().chain(WORKERS).chain(["reconcile"]).collect();
    let stack = Stack::start_with("wiped", Choice { settings, roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(CUSTOMERS as u32).await;
    let crowd = Customer::crowd(&stack, "guest", CUSTOMERS);
    let (booked, mut seen) = watch::channel(0);
    let customers = stream::iter(&crowd).for_each_concurrent(10, async |customer| {
        // A wish that nobody had taken yet may be lost with its queue: the customer asks again, under the same key.
        let (answer, _) = customer.order(&schedule, None).await;
        let order = answer.body["order_id"].as_str().expect("an order");
        customer.pay(order).await;
        customer.until_status(order, "confirmed").await;
        booked.send_modify(|count| *count += 1);
    });
    let mut reached = async |count: usize| drop(seen.wait_for(|seen| *seen >= count).await.expect("customers"));
    let wiper = async {
        reached(10).await;
        empty_cache(&stack).await;
        reached(20).await;
        wipe_queues(&stack).await;
        reached(40).await;
        wipe_queues(&stack).await;
        empty_cache(&stack).await;
        reached(CUSTOMERS).await;
    };
    tokio::join!(customers, wiper);

    let once: BTreeMap<String, usize> = (0..CUSTOMERS).map(|number| (format!("guest-{number}"), 1)).collect();
    until("everybody is told once", async || (stack.messages_by_user().await == once).then_some(())).await;
    assert_eq!(stack.count("SELECT count(*) FROM bookings").await, CUSTOMERS as i64);
    stack.check_money().await;
}

/// Every queue of ours, with what is in it.
async fn wipe_queues(stack: &Stack) {
    let queues = Queues::of(stack).await;
    for queue in queue_names() {
        queues.delete(&queue).await;
    }
}
