//! Customers without end: a load that goes on while something is done to the system.

use std::{
    any::Any,
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use holdfast::api::{AuthKeys, Role};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{customer::Customer, habits::Habit, stack::Stack};

/// Sessions of this size, for as many customers as they are to have, so that some get none and wait in line.
pub(crate) const SEATS: u32 = 12;
const CUSTOMERS: usize = 20;

pub(crate) struct Load {
    /// One after the other, and from the beginning again.
    pub sessions: Arc<RwLock<Vec<String>>>,
    enough: CancellationToken,
    begun: Arc<AtomicUsize>,
    /// Each answers how many orders came of it.
    streams: JoinSet<usize>,
}

impl Load {
    /// So many customers on their way at any time, each with the habit that is next; they go to these ingresses in turn.
    pub(crate) fn on(stack: &Stack, apis: &[String], sessions: Vec<String>, at_once: usize) -> Self {
        let (sessions, begun) = (Arc::new(RwLock::new(sessions)), Arc::new(AtomicUsize::new(0)));
        let keys = Arc::new(AuthKeys::from_settings(&stack.settings().auth).expect("a key"));
        let enough = CancellationToken::new();
        let mut streams = JoinSet::new();
        for stream in 0..at_once {
            let (sessions, begun, enough, keys) = (sessions.clone(), begun.clone(), enough.clone(), keys.clone());
            let anybody = Customer::of(stack, "anybody").at(&apis[stream % apis.len()]);
            streams.spawn(async move {
                let mut orders = 0;
                while !enough.is_cancelled() {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    let session = session_of(number, &sessions.read().expect("whole"));
                    let seat = number.is_multiple_of(3).then_some(number as i64 % i64::from(SEATS) + 1);
                    let customer = anybody.named(&format!("guest-{number}"), token(&keys, number));
                    let came = customer.live(Habit::of(number * 7 + number / CUSTOMERS), &session, seat).await;
                    orders += usize::from(came.is_some());
                }
                orders
            });
        }
        Self { sessions, enough, begun, streams }
    }

    /// Whether there will be customers without a session of their own before long.
    #[allow(dead_code, reason = "for the soak")]
    pub(crate) fn wants_sessions(&self) -> bool {
        self.begun.load(Ordering::Relaxed) / CUSTOMERS + 15 > self.sessions.read().expect("whole").len()
    }

    /// Lets nobody begin any more, and returns once the last has told their story: how many orders there were, and the
    /// words of those who were let down.
    pub(crate) async fn ends(mut self) -> (usize, Vec<String>) {
        self.enough.cancel();
        let (mut orders, mut let_down) = (0, Vec::new());
        while let Some(stream) = self.streams.join_next().await {
            match stream {
                Ok(came) => orders += came,
                Err(panic) => let_down.push(words(panic.into_panic().as_ref())),
            }
        }
        (orders, let_down)
    }
}

fn session_of(number: usize, sessions: &[String]) -> String {
    sessions[number / CUSTOMERS % sessions.len()].clone()
}

/// What a failed assertion said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("without words").to_owned()
}

fn token(keys: &AuthKeys, number: usize) -> String {
    let (user, expires) = (format!("guest-{number}"), time::OffsetDateTime::now_utc() + time::Duration::hours(1));
    keys.mint(&user, Role::Customer, Some(&format!("openid-{user}")), expires).expect("a token")
}
