//! The loop that every worker runs in, with handlers that misbehave.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast::{
    broker::{
        Broker, Link,
        consume::{self, Fault, Handler, Received, Shape, Verdict},
        topology::Topology,
    },
    domain::{
        ids::OrderId,
        message::{Message, OrderHeld, Queue},
    },
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::stack::{server_resources::VirtualHost, until};

fn order(number: usize) -> OrderId {
    OrderId::try_from(format!("hf{number:08}")).expect("an id")
}

/// A broker with our topology, and `count` orders waiting in `prepay`.
async fn broker_with(count: usize) -> (VirtualHost, Broker) {
    let host = VirtualHost::make().await;
    let link = Link::new(host.amqp_url.clone().into(), "topology".into());
    assert_eq!(Topology::required().apply(&link).await.expect("a broker"), []);
    let broker = Broker::start(&host.amqp_url.clone().into(), "consuming test", Duration::from_secs(10));
    let messages: Vec<Message> =
        (0..count).map(|number| Message::OrderHeld(OrderHeld { order_id: order(number) })).collect();
    let sends = messages.iter().map(|message| broker.publisher.publish(message));
    for sent in futures_util::future::join_all(sends).await {
        sent.expect("confirmed");
    }
    (host, broker)
}

/// One message always conflicts with something; batches that hold it fail whole.
struct Clashing {
    done: Mutex<BTreeSet<OrderId>>,
}

impl Handler for Clashing {
    type Message = OrderHeld;
    const NAME: &'static str = "clashing";
    const SHAPE: Shape = Shape { batch: 16, concurrent: 1 };

    async fn handle(&self, batch: &[Received<OrderHeld>]) -> Result<Vec<Verdict>, Fault> {
        if batch.iter().any(|received| received.message.order_id == order(21)) {
            return Err(Fault::Conflict("somebody was first".into()));
        }
        let mut done = self.done.lock().expect("no panic");
        done.extend(batch.iter().map(|received| received.message.order_id.clone()));
        Ok(batch.iter().map(|_| Verdict::Done(Vec::new())).collect())
    }
}

#[tokio::test]
async fn what_conflicts_for_ever_parks_alone() {
    let (host, broker) = broker_with(40).await;
    let stop = CancellationToken::new();
    let clashing = Arc::new(Clashing { done: Mutex::default() });
    let running = tokio::spawn(consume::run(broker.clone(), Queue::Prepay, clashing.clone(), stop.clone()));

    until("the others are done", async || (clashing.done.lock().expect("no panic").len() == 39).then_some(())).await;
    until("it is parked", async || (host.ready_in("prepay.dead").await == 1).then_some(())).await;
    stop.cancel();
    running.await.expect("an orderly end").expect("the right to read");
    broker.close().await;
    assert_eq!(host.ready_in("prepay").await, 0);
}

/// Holds what it takes until it may go on, and notes what it has in hand.
struct Slow {
    may_finish: Semaphore,
    in_hand: Mutex<BTreeSet<OrderId>>,
    taken: Mutex<Vec<OrderId>>,
    twice_at_once: Mutex<Vec<OrderId>>,
}

impl Handler for Slow {
    type Message = OrderHeld;
    const NAME: &'static str = "slow";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 8 };

    async fn handle(&self, batch: &[Received<OrderHeld>]) -> Result<Vec<Verdict>, Fault> {
        let id = batch[0].message.order_id.clone();
        self.taken.lock().expect("no panic").push(id.clone());
        if !self.in_hand.lock().expect("no panic").insert(id.clone()) {
            self.twice_at_once.lock().expect("no panic").push(id.clone());
        }
        self.may_finish.acquire().await.expect("open").forget();
        self.in_hand.lock().expect("no panic").remove(&id);
        Ok(vec![Verdict::Done(Vec::new())])
    }
}

#[tokio::test]
async fn what_is_in_hand_is_finished_before_it_is_taken_again() {
    let (host, broker) = broker_with(20).await;
    let stop = CancellationToken::new();
    let slow = Arc::new(Slow {
        may_finish: Semaphore::new(0),
        in_hand: Mutex::default(),
        taken: Mutex::default(),
        twice_at_once: Mutex::default(),
    });
    let running = tokio::spawn(consume::run(broker.clone(), Queue::Prepay, slow.clone(), stop.clone()));
    let taken = || slow.taken.lock().expect("no panic").len();

    until("its hands are full", async || (taken() == 8).then_some(())).await;
    host.cut("consuming test consume").await;
    until("all are in the queue again", async || (host.ready_in("prepay").await == 20).then_some(())).await;
    slow.may_finish.add_permits(8);
    until("its hands are full again", async || (taken() == 16).then_some(())).await;
    slow.may_finish.add_permits(100);
    until("all are done", async || (taken() == 28).then_some(())).await;
    stop.cancel();
    running.await.expect("an orderly end").expect("the right to read");
    broker.close().await;
    assert_eq!(host.ready_in("prepay").await, 0);
    assert_eq!(*slow.twice_at_once.lock().expect("no panic"), []);
}

/// Has as much in hand as the widest worker, and finishes it in the same instant, all but what cannot be finished.
struct AllAtOnce {
    taken: AtomicUsize,
    may_finish: Semaphore,
    unfinished: Option<OrderId>,
}

impl Handler for AllAtOnce {
    type Message = OrderHeld;
    const NAME: &'static str = "all at once";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 64 };

    async fn handle(&self, batch: &[Received<OrderHeld>]) -> Result<Vec<Verdict>, Fault> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.may_finish.acquire().await.expect("open").forget();
        if self.unfinished.as_ref() == Some(&batch[0].message.order_id) {
            return Err(Fault::Away("for ever".into()));
        }
        Ok(vec![Verdict::Done(Vec::new())])
    }
}

/// How many of 200 messages are in the queue after 64 were in hand as the worker was told to stop.
async fn left_by_one_who_stops(unfinished: Option<OrderId>) -> u32 {
    let (host, broker) = broker_with(200).await;
    let stop = CancellationToken::new();
    let hands = AllAtOnce { taken: AtomicUsize::new(0), may_finish: Semaphore::new(0), unfinished };
    let hands = Arc::new(hands);
    let running = tokio::spawn(consume::run(broker.clone(), Queue::Prepay, hands.clone(), stop.clone()));
    until("its hands are full", async || (hands.taken.load(Ordering::Relaxed) == 64).then_some(())).await;
    stop.cancel();
    hands.may_finish.add_permits(1_000);
    running.await.expect("an orderly end").expect("the right to read");
    broker.close().await;
    until("the rest is in the queue again", async || (host.ready_in("prepay").await >= 200 - 64).then_some(())).await;
    host.ready_in("prepay").await
}

#[tokio::test]
async fn what_is_finished_as_a_worker_stops_does_not_come_back() {
    assert_eq!(left_by_one_who_stops(None).await, 200 - 64);
}

#[tokio::test]
async fn what_is_not_finished_as_a_worker_stops_comes_back() {
    // Nearly the last, so that most are acknowledged together before it, and the others alone.
    assert_eq!(left_by_one_who_stops(Some(order(60))).await, 200 - 63);
}
