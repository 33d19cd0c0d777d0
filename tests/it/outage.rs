//! A stack on wires that can be broken, under a load in which every ending happens; and what must hold after each break and
//! at the end.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::{
    books::DEAD,
    customer::Customer,
    habits::every_ending,
    load::{Load, SEATS},
    stack::{Choice, Stack, until},
    wire::Wires,
};

/// Customers on their way at the same time.
const AT_ONCE: usize = 16;

pub(crate) struct Outage {
    pub stack: Stack,
    pub wires: Wires,
    quiet: String,
    load: Load,
}

impl Outage {
    pub(crate) async fn prepare(test: &str) -> Self {
        let choice = every_ending();
        let mut stack = Stack::start_with(test, Choice { roles: Vec::new(), ..every_ending() }).await;
        let quiet = stack.add_schedule(50).await;
        let mut sessions = Vec::new();
        for _ in 0..20 {
            sessions.push(stack.add_schedule(SEATS).await);
        }
        let load = Load::on(&stack, std::slice::from_ref(&stack.api), sessions, AT_ONCE);
        let wires = Wires::under(&mut stack).await;
        for role in choice.roles {
            stack.spawn(role);
        }
        stack.until_ready().await;
        Self { stack, wires, quiet, load }
    }

    /// A customer who comes when all is whole again is served without anybody's help, and the ingress has all its
    /// servers back; tells how soon.
    pub(crate) async fn back_to_work(&self, name: &str) -> Duration {
        let began = Instant::now();
        // Deadlines are seconds here: one whose call to WeChat went into a connection that was forgotten can run out
        // before its code comes. Its customer orders again.
        let (customer, order) = until(&format!("{name} has paid"), async || {
            let waited = began.elapsed();
            let customer = Customer::of(&self.stack, &format!("{name}-{}", waited.as_millis()));
            let (answer, _) = customer.order(&self.quiet, None).await;
            assert_eq!(answer.status, StatusCode::CREATED, "no code for {name} after {waited:?}: {}", answer.body);
            let order = answer.body["order_id"].as_str().expect("an order_id").to_owned();
            answer.body["code_url"].as_str()?;
            let paid = customer.phone(&order).await;
            let too_late = matches!(paid.body["reason"].as_str(), Some("expired" | "closed"));
            assert!(paid.status == StatusCode::OK || too_late, "{order} has a code that cannot be paid: {}", paid.body);
            (!too_late).then_some((customer, order))
        })
        .await;
        until(&format!("{name}'s {order} is confirmed"), async || {
            (customer.look(&order).await["status"] == "confirmed").then_some(())
        })
        .await;
        until(&format!("{name} is told"), async || self.stack.messages_to(&customer.user).await.pop()).await;
        until("the ingress has its servers back", async || {
            let ready = self.stack.health("/readyz").await?;
            ready.body["dependencies"].as_object()?.values().all(|word| word == "ok").then_some(())
        })
        .await;
        began.elapsed()
    }

    /// Everything that was begun comes to an end, and nothing was lost, doubled or set aside.
    pub(crate) async fn end(self) {
        let (orders, let_down) = self.load.ends().await;
        println!("{orders} orders");
        assert!(let_down.is_empty(), "{let_down:#?}");
        assert!(orders > 50, "hardly a load: {orders}");
        self.stack.pay_offers().await;
        self.stack.come_to_an_end(Duration::from_secs(180)).await;
        self.stack.assert_empty(&DEAD).await;
        self.stack.check_money().await;
    }
}
