//! RabbitMQ goes away and comes back.

use reqwest::StatusCode;

use crate::{
    customer::Customer,
    servers::{Servers, choice},
    stack::{Stack, until},
};

#[tokio::test]
async fn broker_away_at_ingress() {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("broker_away", choice()).await;
    let schedule = stack.add_schedule(5).await;
    let [early, late] = ["early", "late"].map(|user| Customer::of(&stack, user));
    let paid = early.submit(&schedule, None).await;
    early.until_status(&paid, "awaiting_payment").await;

    servers.stop("rabbitmq").await;
    let refused = late.click(&schedule, None).await.expect("an answer");
    assert_eq!((refused.status, refused.problem()), (StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable"));
    assert!(refused.headers.contains_key("retry-after"));
    early.until_status(&paid, "awaiting_payment").await;
    // WeChat is not told that we have what we have not.
    early.pay(&paid).await;
    until("the callback is refused", async || {
        let metrics = stack.health("/metrics").await?.body;
        let metrics = metrics.as_str()?;
        let refused = |line: &str| line.starts_with("wechat_callbacks_total") && line.contains("broker_unconfirmed");
        metrics.lines().any(refused).then_some(())
    })
    .await;
    let unready = stack.health("/readyz").await.expect("readiness");
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", unready.body);

    servers.start().await;
    let order = late.submit(&schedule, None).await;
    assert_eq!(late.submit(&schedule, None).await, order, "one key, one order");
    late.until_status(&order, "awaiting_payment").await;
    early.until_status(&paid, "confirmed").await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2);
    until("the API is ready again", async || stack.health("/readyz").await?.status.is_success().then_some(())).await;
    stack.come_to_rest().await;
    stack.check_ledger().await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn consumers_come_back_after_the_broker_restarts_twice() {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("broker_twice", choice()).await;
    let schedule = stack.add_schedule(5).await;

    // Idle consumers first, so that nothing but the broken connection can tell them.
    servers.restart("rabbitmq").await;
    book(&stack, &schedule, "after-the-first").await;
    servers.restart("rabbitmq").await;
    servers.crash("rabbitmq", "KILL").await;
    book(&stack, &schedule, "after-the-third").await;

    stack.come_to_rest().await;
    stack.check_ledger().await;
    stack.check_invariants().await;
}

async fn book(stack: &Stack, schedule: &str, user: &str) {
    let customer = Customer::of(stack, user);
    let order = customer.submit(schedule, None).await;
    customer.until_status(&order, "awaiting_payment").await;
    customer.pay(&order).await;
    customer.until_status(&order, "confirmed").await;
    until(&format!("{user} is told"), async || stack.messages_to(user).await.pop()).await;
}
