//! A run of bookings during which everything that can go away does.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::StatusCode;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    customer::Customer,
    servers::{Servers, choice},
    stack::{Stack, WORKERS},
};

const BOOKINGS: usize = 300;
/// Customers on their way at the same time.
const AT_ONCE: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_3_three_hundred_bookings_while_everything_is_restarted() {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("bookings", choice()).await;
    let mut schedules = Vec::new();
    for _ in 0..3 {
        schedules.push(stack.add_schedule(100).await);
    }

    let (confirmed, mut seen) = watch::channel(0);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut customers = JoinSet::new();
    for (number, customer) in Customer::crowd(&stack, "guest", BOOKINGS).into_iter().enumerate() {
        let (places, confirmed) = (places.clone(), confirmed.clone());
        let schedule = schedules[number % schedules.len()].clone();
        customers.spawn(async move {
            let _place = places.acquire().await.expect("open");
            book(&customer, &schedule).await;
            confirmed.send_modify(|count| *count += 1);
        });
    }
    let mut reached = async |count: usize| drop(seen.wait_for(|seen| *seen >= count).await.expect("customers"));

    reached(20).await;
    servers.restart("rabbitmq").await;
    reached(50).await;
    servers.crash("postgres", "QUIT").await;
    reached(80).await;
    servers.stop("redis").await;
    reached(110).await;
    servers.start().await;
    for (worker, count) in WORKERS.into_iter().zip((130..).step_by(15)) {
        reached(count).await;
        stack.kill(worker);
        stack.spawn(worker);
    }
    reached(220).await;
    stack.kill("api");
    stack.spawn("api");
    reached(240).await;
    servers.crash("rabbitmq", "KILL").await;
    reached(BOOKINGS).await;
    while let Some(customer) = customers.join_next().await {
        customer.expect("a customer was let down");
    }

    stack.come_to_rest().await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 300);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'confirmed'").await, 300);
    assert_eq!(stack.count("SELECT count(*) FROM bookings").await, 300);
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 0);
    let once: BTreeMap<String, usize> = (0..BOOKINGS).map(|number| (format!("guest-{number}"), 1)).collect();
    assert_eq!(stack.messages_by_user().await, once, "each is told once");
    stack.check_ledger().await;
    stack.check_invariants().await;
}

async fn book(customer: &Customer, schedule: &str) {
    let (answer, _) = customer.order(schedule, None).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let order = answer.body["order_id"].as_str().expect("an id");
    customer.pay(order).await;
    customer.until_status(order, "confirmed").await;
}
