//! Customers without end: a load that goes on while something is done to the system.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use holdfast::api::{AuthKeys, Role};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{customer::Customer, habits::Habit, stack::Stack};

/// Sessions of this size, for as many customers as they are to have, so that some get none and wait in line.
const SEATS: u32 = 12;
const CUSTOMERS: usize = 20;

pub(crate) struct Load {
    enough: CancellationToken,
    /// Each answers how many orders came of it.
    streams: JoinSet<usize>,
}

impl Load {
    /// So many customers on their way at any time, each with the habit that is next.
    pub(crate) async fn on(stack: &Stack, at_once: usize) -> Self {
        let mut sessions = Vec::new();
        for _ in 0..20 {
            sessions.push(stack.add_schedule(SEATS).await);
        }
        let (sessions, next) = (Arc::<[String]>::from(sessions), Arc::new(AtomicUsize::new(0)));
        let anybody = Customer::of(stack, "anybody");
        let keys = Arc::new(AuthKeys::from_settings(&stack.settings().auth).expect("a key"));
        let enough = CancellationToken::new();
        let mut streams = JoinSet::new();
        for _ in 0..at_once {
            let (sessions, next, enough) = (sessions.clone(), next.clone(), enough.clone());
            let (anybody, keys) = (anybody.clone(), keys.clone());
            streams.spawn(async move {
                let mut orders = 0;
                while !enough.is_cancelled() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let session = &sessions[number / CUSTOMERS % sessions.len()];
                    let seat = number.is_multiple_of(3).then_some(number as i64 % i64::from(SEATS) + 1);
                    let customer = anybody.named(&format!("guest-{number}"), token(&keys, number));
                    let came = customer.live(Habit::of(number * 7 + number / 20), session, seat).await;
                    orders += usize::from(came.is_some());
                }
                orders
            });
        }
        Self { enough, streams }
    }

    /// Lets nobody begin any more; tells how many orders there were once the last has told their story. Whoever was
    /// let down makes the test fail.
    pub(crate) async fn ends(mut self) -> usize {
        self.enough.cancel();
        let mut orders = 0;
        while let Some(stream) = self.streams.join_next().await {
            orders += stream.expect("a customer was let down");
        }
        orders
    }
}

fn token(keys: &AuthKeys, number: usize) -> String {
    let (user, expires) = (format!("guest-{number}"), time::OffsetDateTime::now_utc() + time::Duration::hours(1));
    keys.mint(&user, Role::Customer, Some(&format!("openid-{user}")), expires).expect("a token")
}
