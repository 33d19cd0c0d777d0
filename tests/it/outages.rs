//! What a network can do to each connection, while a hundred bookings of every ending run: nothing is lost, nothing
//! parked, and afterwards work goes on without help.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::{
    books::DEAD,
    customer::Customer,
    habits::every_ending,
    load::{Load, SEATS},
    stack::{Answer, Choice, Stack, until},
    wire::{BREAKS, Break, Wire, Wires},
};

/// Customers on their way at the same time.
const AT_ONCE: usize = 16;

struct Outage {
    stack: Stack,
    wires: Wires,
    quiet: String,
    load: Load,
}

impl Outage {
    async fn prepare(test: &str) -> Self {
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
    async fn back_to_work(&self, name: &str) -> Duration {
        let began = Instant::now();
        let customer = Customer::of(&self.stack, name);
        let (answer, _) = customer.order(&self.quiet, None).await;
        let order = answer.body["order_id"].as_str().unwrap_or_else(|| panic!("{name}: {}", answer.body));
        customer.pay(order).await;
        until(&format!("{name}'s {order} is confirmed"), async || {
            (customer.look(order).await["status"] == "confirmed").then_some(())
        })
        .await;
        until(&format!("{name} is told"), async || self.stack.messages_to(name).await.pop()).await;
        until("the ingress has its servers back", async || {
            let ready = Answer::try_of(self.stack.request(Method::GET, "/readyz")).await.ok()?;
            ready.body["dependencies"].as_object()?.values().all(|word| word == "ok").then_some(())
        })
        .await;
        began.elapsed()
    }

    /// Everything that was begun comes to an end, and nothing was lost, doubled or set aside.
    async fn end(self) {
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

/// Long enough to run into every limit there is on a single call.
fn time_of(how: Break) -> Duration {
    Duration::from_secs(match how {
        _ if how.is_momentary() => 0,
        Break::Stalled => 7,
        _ => 3,
    })
}

async fn broken_in_every_way(test: &str, wire: fn(&Wires) -> &Wire) {
    let outage = Outage::prepare(test).await;
    for (number, how) in BREAKS.into_iter().enumerate() {
        let time = time_of(how);
        wire(&outage.wires).broken(how, time).await;
        let after = outage.back_to_work(&format!("after-{number}")).await;
        println!("{test}: {how:?} for {time:?}, a booking {after:?} after it");
    }
    outage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_the_database_breaks_in_every_way() {
    broken_in_every_way("wire_postgresql", |wires| &wires.postgresql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_the_broker_breaks_in_every_way() {
    broken_in_every_way("wire_rabbitmq", |wires| &wires.rabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_redis_breaks_in_every_way() {
    broken_in_every_way("wire_redis", |wires| &wires.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_the_wire_to_wechat_breaks_in_every_way() {
    broken_in_every_way("wire_wechat", |wires| &wires.wechat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_2_two_servers_are_away_at_once() {
    let outage = Outage::prepare("wire_pairs").await;
    let wires = outage.wires.named();
    for (first, (one, wire)) in wires.iter().enumerate() {
        for (other, second) in &wires[first + 1..] {
            let time = Duration::from_secs(2);
            tokio::join!(wire.broken(Break::Refused, time), second.broken(Break::Stalled, time));
            let after = outage.back_to_work(&format!("after-{one}-and-{other}")).await;
            println!("{one} refuses and {other} stalls for {time:?}, a booking {after:?} after it");
        }
    }
    outage.end().await;
}
