//! Customers: as many as wanted, in a closed loop or at a rate.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    stack::{PRICE_FEN, Stack},
    wire::Wire,
};

/// Of each of the eight sessions of a run: several times what a run can sell, as each seat is a row to be written first.
const SEATS: u32 = 5_000;

/// One person with a connection to the API and a phone.
pub(crate) struct Customer {
    api: Wire,
    phone: Wire,
    api_url: String,
    token: String,
}

impl Customer {
    pub(crate) fn of(stack: &Stack, user: &str) -> Self {
        Self {
            api: Wire::to(&stack.api),
            phone: Wire::to(&stack.simulator.url),
            api_url: stack.api.clone(),
            token: stack.quick_token(user),
        }
    }

    /// The next clicks over this connection are another customer's.
    pub(crate) fn become_holder_of(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// Clicks; the status and the body of the answer. `wait` asks for the outcome.
    pub(crate) async fn click(&mut self, schedule: &str, key: &str, wait: bool) -> (u16, String) {
        let prefer = if wait { "Prefer: wait=10\r\n" } else { "" };
        let headers = format!("Authorization: Bearer {}\r\nIdempotency-Key: {key}\r\n{prefer}", self.token);
        let body = format!(r#"{{"schedule_id":"{schedule}","amount_fen":{PRICE_FEN}}}"#);
        let request = self.api.request("POST", "/v1/orders", &headers, &body);
        self.api.call(&request).await.expect("an answer")
    }

    /// Click → QR code, and payment → the page's event that says confirmed. The payment's callback leaves at once.
    async fn journey(&mut self, schedule: &str) -> (Duration, Duration) {
        let began = Instant::now();
        let key = Uuid::now_v7().to_string();
        let body = loop {
            match self.click(schedule, &key, true).await {
                (201, body) => break body,
                // No outcome within ten seconds, or no room: the same key is the same wish.
                (202 | 503, _) => {}
                (status, body) => panic!("{status}: {body}"),
            }
        };
        let click_to_qr = began.elapsed();
        let order: Value = serde_json::from_str(&body).expect("a document");
        let order = order["order_id"].as_str().expect("an id");

        let began = Instant::now();
        let page = Wire::to(&self.api_url);
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let events = page.request("GET", &format!("/v1/orders/{order}/events"), &headers, "");
        let pay = self.phone.request("POST", "/_sim/pay", "", &format!(r#"{{"out_trade_no":"{order}"}}"#));
        let (heard, paid) = tokio::join!(page.listen_for(&events, r#""status":"confirmed""#), self.phone.call(&pay));
        heard.expect("the event");
        assert_eq!(paid.expect("an answer").0, 200);
        (click_to_qr, began.elapsed())
    }
}

/// What a run of journeys took.
#[derive(Default)]
pub(crate) struct Run {
    click_to_qr: Vec<Duration>,
    paid_to_confirmed: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Run {
    pub(crate) fn count(&self) -> f64 {
        self.click_to_qr.len() as f64
    }

    pub(crate) fn per_s(&self) -> f64 {
        self.count() / self.took.as_secs_f64()
    }

    pub(crate) fn click_to_qr_ms(&self) -> Value {
        percentiles(&self.click_to_qr)
    }

    pub(crate) fn paid_to_confirmed_ms(&self) -> Value {
        percentiles(&self.paid_to_confirmed)
    }

    pub(crate) fn words(&self) -> String {
        let (qr, confirmed) = (self.click_to_qr_ms(), self.paid_to_confirmed_ms());
        format!(
            "{:.0} journeys/s; click → QR p50 {} p99 {} ms; paid → confirmed p50 {} p99 {} ms",
            self.per_s(),
            qr["p50"],
            qr["p99"],
            confirmed["p50"],
            confirmed["p99"]
        )
    }

    fn add(&mut self, (click_to_qr, paid_to_confirmed): (Duration, Duration)) {
        self.click_to_qr.push(click_to_qr);
        self.paid_to_confirmed.push(paid_to_confirmed);
    }
}

pub(crate) fn percentiles(times: &[Duration]) -> Value {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        sorted
            .get((sorted.len().max(1) - 1) * percent / 100)
            .map(|time| (time.as_micros() as f64 / 100.0).round() / 10.0)
    };
    json!({ "p50": at(50), "p99": at(99) })
}

/// A closed loop: each customer begins the next journey when one is done, over eight sessions. What comes out is the
/// highest rate that stays stable, as nothing can pile up beyond the customers there are.
pub(crate) async fn busy(stack: &Stack, customers: usize, length: Duration) -> Run {
    let schedules = sessions(stack, 8, SEATS).await;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..customers {
        let schedule = schedules[number % schedules.len()].clone();
        let mut customer = Customer::of(stack, &format!("busy-{number}"));
        running.spawn(async move {
            let mut run = Run::default();
            while began.elapsed() < length {
                run.add(customer.journey(&schedule).await);
            }
            run
        });
    }
    let mut all = Run::default();
    for run in running.join_all().await {
        all.click_to_qr.extend(run.click_to_qr);
        all.paid_to_confirmed.extend(run.paid_to_confirmed);
    }
    all.took = began.elapsed();
    all
}

/// At a rate, whatever became of those before: who is slow does not slow down the arrivals. A hundred customers take
/// turns, who are all there before the first click; more come when all of them are busy.
pub(crate) async fn steady(stack: &Stack, per_s: f64, length: Duration) -> Run {
    let schedules = sessions(stack, 8, SEATS).await;
    let (idle, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..100 {
        let _ = idle.send(Customer::of(stack, &format!("steady-{number}")));
    }
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / per_s.max(1.0)));
    let began = Instant::now();
    let mut journeys = JoinSet::new();
    for number in 0_usize.. {
        beat.tick().await;
        if began.elapsed() >= length {
            break;
        }
        let mut customer = waiting.try_recv().unwrap_or_else(|_| Customer::of(stack, &format!("steady-late-{number}")));
        let (schedule, idle) = (schedules[number % schedules.len()].clone(), idle.clone());
        journeys.spawn(async move {
            let times = customer.journey(&schedule).await;
            let _ = idle.send(customer);
            times
        });
    }
    let mut run = Run::default();
    journeys.join_all().await.into_iter().for_each(|one| run.add(one));
    run.took = began.elapsed();
    run
}

/// All in the same instant.
pub(crate) async fn at_once(stack: &Stack, customers: usize) -> Run {
    let schedules = sessions(stack, 1, u32::try_from(customers).expect("a room's size")).await;
    let mut journeys = JoinSet::new();
    let began = Instant::now();
    for number in 0..customers {
        let (mut customer, schedule) = (Customer::of(stack, &format!("at-once-{number}")), schedules[0].clone());
        journeys.spawn(async move { customer.journey(&schedule).await });
    }
    let mut run = Run::default();
    journeys.join_all().await.into_iter().for_each(|one| run.add(one));
    run.took = began.elapsed();
    run
}

pub(crate) async fn sessions(stack: &Stack, count: usize, capacity: u32) -> Vec<String> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(stack.add_schedule(capacity).await);
    }
    sessions
}
