//! That a session sold out is said once, when it becomes true, and not by every request that comes too late.

use reqwest::StatusCode;

use crate::{
    customer::Customer,
    metrics::Counts,
    overrides::stage,
    stack::{Stack, until},
};

const LAPSED: usize = 12;
const REFUSED: usize = 40;

impl Stack {
    /// Messages that worker `expiry` has finished so far.
    async fn ended(&self) -> u64 {
        Counts::of_worker(self, "expiry").await.sum("messages_total", &[("queue", "expiry"), ("outcome", "done")])
    }

    /// Orders that lapsed one after the other, all of one seat, while another one is free.
    async fn lapsed(&self, schedule: &str) -> Vec<(String, String)> {
        let mut lapsed = Vec::new();
        for number in 0..LAPSED {
            let (token, order) = self.payable(&format!("idle{number}"), schedule).await;
            self.lapse_now(&token, &order).await;
            lapsed.push((token, order));
        }
        lapsed
    }
}

/// D4: each refused request led to as many messages as there were lapsed orders.
#[tokio::test]
async fn d4_a_session_sells_out_once() {
    let mut stack = stage("sold_out_once", 1_000_000).await;
    let schedule = stack.add_schedule(2).await;
    let lapsed = stack.lapsed(&schedule).await;
    // The worker is away: every message about lapsed orders stays where it can be counted.
    stack.terminate("expiry").await;
    until("nothing is on its way", async || (stack.ready_in("expiry").await == 0).then_some(())).await;
    stack.payable("zoe", &schedule).await;
    let (ann, last) = stack.payable("ann", &schedule).await;
    let said = u32::try_from(LAPSED).expect("few");
    until("the session is sold out, once", async || (stack.ready_in("expiry").await == said).then_some(())).await;

    let crowd = Customer::crowd(&stack, "late", REFUSED);
    for customer in &crowd {
        let (answer, _) = customer.order(&schedule, None).await;
        assert_eq!((answer.status, answer.problem()), (StatusCode::CONFLICT, "sold-out"), "{}", answer.body);
    }
    stack.pay(&last).await;
    stack.until_status(&ann, &last, "confirmed").await;
    assert_eq!(stack.ready_in("expiry").await, said, "neither a refusal nor a payment says it again");

    stack.spawn("expiry");
    for (token, order) in &lapsed {
        stack.until_status(token, order, "expired").await;
    }
    stack.check_money().await;
}

/// D4: a late payment that takes the last seat says it, and so does an operator who gives it away.
#[tokio::test]
async fn d4_whoever_takes_the_last_seat_closes_the_lapsed_orders() {
    for by in ["payment", "waiver"] {
        let stack = stage(&format!("sold_out_by_{by}"), 1_000_000).await;
        let schedule = stack.add_schedule(2).await;
        let mut lapsed = stack.lapsed(&schedule).await;
        stack.payable("zoe", &schedule).await;
        let (token, late) = lapsed.pop().expect("one of them");
        if by == "payment" {
            assert_eq!(stack.pay(&late).await.status, 200);
        } else {
            stack.decided(&late, "waive", &["--as", "olga"]).await;
        }
        stack.until_status(&token, &late, "confirmed").await;
        for (token, order) in &lapsed {
            stack.until_status(token, order, "expired").await;
        }
        let once = stack.ended().await;
        assert!(
            once < 3 * u64::try_from(LAPSED).expect("few") + 10,
            "{by}: {once} messages for {LAPSED} lapsed orders"
        );
        if by == "payment" {
            stack.check_money().await;
        } else {
            stack.verified().await;
        }
    }
}
