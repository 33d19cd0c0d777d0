//! RabbitMQ is short of memory or disk: it goes on delivering, and takes nothing from anybody.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::{
    customer::Customer,
    servers::{Servers, choice},
    stack::{Stack, until},
};

/// WeChat hangs up on a callback after this long.
const WECHAT_WAITS: Duration = Duration::from_secs(5);

#[tokio::test]
async fn broker_short_of_memory() {
    let memory = |share| ["set_vm_memory_high_watermark", share];
    takes_nothing("broker_memory", &memory("0.0000001"), &memory("0.4")).await;
}

#[tokio::test]
async fn broker_short_of_disk() {
    let disk = |free| ["set_disk_free_limit", free];
    takes_nothing("broker_disk", &disk("1000000000000000"), &disk("50000000")).await;
}

async fn takes_nothing(test: &str, raise: &[&str], lower: &[&str]) {
    let servers = Servers::ours().await;
    let mut stack = Stack::start_with(test, choice()).await;
    let schedule = stack.add_schedule(5).await;
    let [early, late] = ["early", "late"].map(|user| Customer::of(&stack, user));
    let paid = early.submit(&schedule, None).await;
    early.until_status(&paid, "awaiting_payment").await;

    servers.rabbitmqctl(raise).await;
    until("orders are refused", async || {
        let asked = Instant::now();
        let answer = late.click(&schedule, None).await.ok()?;
        assert!(asked.elapsed() < WECHAT_WAITS, "answered after {:?}", asked.elapsed());
        (answer.status != StatusCode::ACCEPTED).then(|| {
            assert_eq!((answer.status, answer.problem()), (StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable"));
            assert!(answer.headers.contains_key("retry-after"));
        })
    })
    .await;
    let unready = stack.health("/readyz").await.expect("readiness");
    assert_eq!(
        (unready.status, &unready.body["dependencies"]["broker"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"away".into())
    );
    early.pay(&paid).await;
    until("the callback is refused, in time for WeChat to hear it", async || {
        let metrics = stack.health("/metrics").await?.body;
        let metrics = metrics.as_str()?;
        let refused = |line: &str| line.starts_with("wechat_callbacks_total") && line.contains("\"broker_");
        metrics.lines().any(refused).then_some(())
    })
    .await;
    early.until_status(&paid, "awaiting_payment").await;

    servers.rabbitmqctl(lower).await;
    let order = late.submit(&schedule, None).await;
    late.until_status(&order, "awaiting_payment").await;
    late.pay(&order).await;
    late.until_status(&order, "confirmed").await;
    early.until_status(&paid, "confirmed").await;
    stack.until_ready().await;
    stack.come_to_rest().await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2);
    stack.check_ledger().await;
    stack.check_invariants().await;
}
