//! PostgreSQL goes away and comes back: orders and payments are taken all the while.

use crate::{
    customer::Customer,
    servers::{Servers, choice},
    stack::{Stack, until},
};

/// Seconds instead of the minute: the workers do the same from the second probe on.
#[tokio::test]
async fn database_away_for_a_minute() {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with("database_away", choice()).await;
    let schedule = stack.add_schedule(50).await;
    let payer = Customer::of(&stack, "payer");
    let paid = payer.submit(&schedule, None).await;
    payer.until_status(&paid, "awaiting_payment").await;

    servers.stop("postgres").await;
    payer.pay(&paid).await;
    let mut waiting = Vec::new();
    for customer in Customer::crowd(&stack, "waiting", 20) {
        let order = customer.submit(&schedule, None).await;
        waiting.push((customer, order));
    }
    for worker in ["seats", "payments"] {
        until(&format!("{worker} has probed twice"), async || {
            let log = std::fs::read_to_string(stack.log(worker)).ok()?;
            (log.matches("a probe failed").count() >= 2).then_some(())
        })
        .await;
    }

    servers.start().await;
    payer.until_status(&paid, "confirmed").await;
    for (place, (customer, order)) in waiting.iter().enumerate() {
        let document = customer.until_status(order, "awaiting_payment").await;
        assert_eq!(document["seat_no"], place + 2, "the order of arrival is kept");
    }
    stack.come_to_rest().await;
    assert_eq!(stack.messages_by_user().await.get("payer"), Some(&1));
    stack.check_ledger().await;
    stack.check_invariants().await;
}
