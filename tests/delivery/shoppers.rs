//! Customers who forgive nothing: one answer that is not the one to be expected, and the run has failed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use holdfast::api::{AuthKeys, Role};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::stack::{Answer, PRICE_FEN, Stack};

/// The ingresses, as a load balancer knows them: one that is to be replaced finishes what it has, and gets no more.
pub(crate) struct Doors {
    doors: Vec<RwLock<String>>,
    next: AtomicUsize,
}

impl Doors {
    pub(crate) fn to(addresses: Vec<String>) -> Arc<Self> {
        Arc::new(Self { doors: addresses.into_iter().map(RwLock::new).collect(), next: AtomicUsize::new(0) })
    }

    /// Any that is open; it stays so until the guard goes.
    async fn any(&self) -> RwLockReadGuard<'_, String> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.doors.len() {
            if let Ok(open) = self.doors[(first + offset) % self.doors.len()].try_read() {
                return open;
            }
        }
        self.doors[first % self.doors.len()].read().await
    }

    /// Takes one out, once nobody is in it any more; it is back when the guard goes.
    pub(crate) async fn close(&self, number: usize) -> RwLockWriteGuard<'_, String> {
        self.doors[number].write().await
    }
}

/// Shoppers on their way until they are told that it is enough.
pub(crate) struct Shoppers {
    enough: CancellationToken,
    served: watch::Receiver<usize>,
    streams: JoinSet<Result<(), String>>,
}

impl Shoppers {
    /// So many at a time, each buying a seat of one of these sessions, which have room for all.
    pub(crate) fn let_in(stack: &Stack, doors: &Arc<Doors>, sessions: Vec<String>, at_once: usize) -> Self {
        let (enough, begun) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (told, served) = watch::channel(0);
        let shop = Arc::new(Shop {
            http: stack.http.clone(),
            doors: doors.clone(),
            simulator: stack.simulator.url.clone(),
            keys: AuthKeys::from_settings(&stack.settings().auth).expect("a key"),
            sessions,
        });
        let mut streams = JoinSet::new();
        for _ in 0..at_once {
            let (shop, enough, begun, told) = (shop.clone(), enough.clone(), begun.clone(), told.clone());
            streams.spawn(async move {
                while !enough.is_cancelled() {
                    shop.serve(begun.fetch_add(1, Ordering::Relaxed)).await?;
                    told.send_modify(|served| *served += 1);
                }
                Ok(())
            });
        }
        Self { enough, served, streams }
    }

    /// Returns when so many more have been served; fails when one of them was not.
    pub(crate) async fn serve(&mut self, more: usize) {
        let goal = *self.served.borrow() + more;
        tokio::select! {
            reached = self.served.wait_for(|served| *served >= goal) => drop(reached.expect("somebody shops")),
            Some(gone) = self.streams.join_next() => panic!("a shopper left: {:?}", gone.expect("no panic")),
        }
    }

    /// How many were served, when the last of them has been.
    pub(crate) async fn go_home(mut self) -> usize {
        self.enough.cancel();
        while let Some(gone) = self.streams.join_next().await {
            gone.expect("no panic").expect("everybody is served");
        }
        *self.served.borrow()
    }
}

struct Shop {
    http: Client,
    doors: Arc<Doors>,
    simulator: String,
    keys: AuthKeys,
    sessions: Vec<String>,
}

impl Shop {
    /// Most buy a seat; of ten, one cancels before paying, and one wants all of the money back.
    async fn serve(&self, number: usize) -> Result<(), String> {
        let expires = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        let user = format!("shopper-{number}");
        let token = self.keys.mint(&user, Role::Customer, Some(&format!("openid-{user}")), expires).expect("a token");
        let wish = json!({ "schedule_id": self.sessions[number % self.sessions.len()], "amount_fen": PRICE_FEN });
        let order = self.ask(Method::POST, "/v1/orders", &token, Some(&wish)).await?;
        let order = order["order_id"].as_str().expect("an id").to_owned();
        let look = format!("/v1/orders/{order}");
        self.until(&look, &token, "awaiting_payment").await?;
        if number % 10 == 3 {
            self.ask(Method::POST, &format!("{look}/cancel"), &token, None).await?;
            return self.until(&look, &token, "cancelled").await;
        }
        let phone = self.http.post(format!("{}/_sim/pay", self.simulator)).json(&json!({ "out_trade_no": order }));
        let paid = Answer::of(phone).await;
        assert_eq!(paid.status, StatusCode::OK, "{}", paid.body);
        self.until(&look, &token, "confirmed").await?;
        if number % 10 == 7 {
            self.ask(Method::POST, &format!("{look}/refunds"), &token, Some(&json!({ "reason": "不去了" }))).await?;
            self.until(&look, &token, "refunded").await?;
        }
        Ok(())
    }

    async fn until(&self, look: &str, token: &str, status: &str) -> Result<(), String> {
        while self.ask(Method::GET, look, token, None).await?["status"] != status {}
        Ok(())
    }

    /// One request at any open door, with one answer that is good.
    async fn ask(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Result<Value, String> {
        let door = self.doors.any().await;
        let request = self.http.request(method.clone(), format!("{}{path}", *door)).bearer_auth(token);
        let request = request.header("Idempotency-Key", "the-only-wish").header("Prefer", "wait=2");
        let request = if let Some(body) = body { request.json(body) } else { request };
        match Answer::try_of(request).await {
            Ok(answer) if answer.status.is_success() => Ok(answer.body),
            Ok(answer) => Err(format!("{method} {path}: {} {}", answer.status, answer.body)),
            Err(error) => Err(format!("{method} {path}: {error:?}")),
        }
    }
}
