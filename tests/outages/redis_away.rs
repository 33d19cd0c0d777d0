//! Redis is emptied, and goes away: it costs speed and nothing else.

use reqwest::StatusCode;

use crate::{
    customer::Customer,
    servers::{Servers, choice},
    stack::{Stack, until},
};

#[tokio::test]
async fn redis_emptied() {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("redis_emptied", choice()).await;
    let schedule = stack.add_schedule(2).await;
    let customer = Customer::of(&stack, "steady");

    empty(&stack).await;
    let order = customer.submit(&schedule, None).await;
    empty(&stack).await;
    customer.until_status(&order, "awaiting_payment").await;
    empty(&stack).await;
    assert_eq!(customer.submit(&schedule, None).await, order, "one key, one order");
    customer.pay(&order).await;
    empty(&stack).await;
    customer.until_status(&order, "confirmed").await;

    // And while it is not there at all.
    servers.stop("redis").await;
    let other = Customer::of(&stack, "without-redis");
    let (answer, _) = other.order(&schedule, None).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let second = answer.body["order_id"].as_str().expect("an id");
    other.pay(second).await;
    other.until_status(second, "confirmed").await;
    until("the customer is told", async || stack.messages_to("without-redis").await.pop()).await;
    servers.start().await;

    stack.come_to_rest().await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2);
    stack.check_ledger().await;
    stack.check_invariants().await;
}

async fn empty(stack: &Stack) {
    let client = redis::Client::open(stack.environment["REDIS_URL"].as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("emptied");
}
