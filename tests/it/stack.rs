//! A whole holdfast of a test's own: real processes, its own database, virtual host, key prefix and simulator
//! on the shared private servers. When it goes, so does everything it made.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    path::{Path, PathBuf},
    process::Child,
    sync::{LazyLock, OnceLock},
    time::{Duration, Instant},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;
use uuid::Uuid;
use wechat_sim::{Keys, Running};

#[path = "processes.rs"]
mod processes;
#[path = "server_resources.rs"]
pub(crate) mod server_resources;

use processes::settings_of;
pub(crate) use processes::{coverage, free_port};
use server_resources::{Management, copy_database, drop_database, drop_keys, finally, make_database, ready_in};

/// One set of WeChat keys for all tests: making RSA keys is slow.
static KEYS: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = scratch().join("stack-keys");
    Keys::load_or_generate(&directory).expect("keys");
    directory
});

/// Longest any condition is waited for; far above what it takes, since the machine may be busy. A program in which
/// servers are away one after the other says its own before anything else.
pub(crate) static PATIENCE: OnceLock<Duration> = OnceLock::new();
pub(crate) const PRICE_FEN: i64 = 20_000;
pub(crate) const WORKERS: [&str; 6] = ["seats", "prepay", "payments", "expiry", "refunds", "notifications"];

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// What a test may choose about its stack; the default is the ordinary one.
pub(crate) struct Choice {
    /// Settings beside the usual ones, by environment name.
    pub settings: Vec<(&'static str, String)>,
    /// How much faster than in life the simulator sends callbacks again.
    pub callback_speed: f64,
    /// Processes to start at once: `api` and workers.
    pub roles: Vec<&'static str>,
    /// The release that runs: the one under test, or another.
    pub executable: PathBuf,
}

impl Default for Choice {
    fn default() -> Self {
        let roles = ["api"].into_iter().chain(WORKERS).collect();
        let executable = env!("CARGO_BIN_EXE_holdfast").into();
        Self { settings: Vec::new(), callback_speed: 100.0, roles, executable }
    }
}

pub(crate) struct Stack {
    pub name: String,
    pub api: String,
    pub simulator: Running,
    pub db: PgPool,
    pub http: Client,
    pub amqp_url: String,
    /// Everything a process of this stack has in its environment.
    pub environment: BTreeMap<String, String>,
    /// What is started from now on.
    pub executable: PathBuf,
    processes: BTreeMap<&'static str, Child>,
    directory: PathBuf,
    management: Management,
}

impl Stack {
    pub(crate) async fn start(test: &str) -> Self {
        Self::start_with(test, Choice::default()).await
    }

    pub(crate) async fn start_with(test: &str, choice: Choice) -> Self {
        let name = format!("hf_{}", Uuid::now_v7().simple());
        let directory = scratch().join(test);
        // What an earlier run left there would be taken for this one's.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory for logs");
        let is_current = choice.executable == Choice::default().executable;
        let db = if is_current { copy_database(&name).await } else { make_database(&name).await };
        let management = Management::from_environment();
        let amqp_url = management.make_vhost(&name).await;

        let api_port = free_port().await;
        let api = format!("http://127.0.0.1:{api_port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        // Yesterday's bill is there at every hour that a test runs at.
        let simulator_settings = wechat_sim::Settings {
            callback_speed: choice.callback_speed,
            bill_hour: 0,
            ..wechat_sim::Settings::default()
        };
        let simulator =
            wechat_sim::start(simulator_settings, Keys::load(&KEYS).expect("keys"), listener).expect("a simulator");

        let mut environment = settings_of(&name, &amqp_url, &api, api_port, &simulator.url);
        environment.extend(choice.settings.into_iter().map(|(name, value)| (name.to_owned(), value)));
        environment.extend(coverage());
        let mut stack = Self {
            name,
            api,
            simulator,
            db,
            // As WeChat, the simulator closes a connection that says nothing for eight seconds.
            http: Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(3)).build().expect("a client"),
            amqp_url,
            environment,
            executable: choice.executable,
            processes: BTreeMap::new(),
            directory,
            management,
        };
        stack.holdfast_ok(&["migrate"]).await;
        stack.holdfast_ok(&["topology", "apply"]).await;
        for role in choice.roles {
            stack.spawn(role);
        }
        if stack.processes.contains_key("api") {
            stack.until_ready().await;
        }
        stack
    }

    // ---- customers

    pub(crate) async fn token(&self, user: &str) -> String {
        self.holdfast_ok(&["token", "--user", user]).await.trim().to_owned()
    }

    /// A customer's token without starting a process: for tests with many customers.
    pub(crate) fn quick_token(&self, user: &str) -> String {
        use holdfast::api::{AuthKeys, Role};
        let settings = self.settings();
        let keys = AuthKeys::from_settings(&settings.auth).expect("a key");
        let expires = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        keys.mint(user, Role::Customer, Some(&format!("openid-{user}")), expires).expect("a token")
    }

    pub(crate) fn settings(&self) -> holdfast::config::Settings {
        holdfast::config::load(self.environment.clone()).settings.expect("readable settings")
    }

    pub(crate) async fn add_schedule(&self, capacity: u32) -> String {
        self.add_schedule_of("pottery", capacity).await
    }

    pub(crate) async fn add_schedule_of(&self, course: &str, capacity: u32) -> String {
        let capacity = capacity.to_string();
        let added = self.holdfast_ok(&["schedule", "add", "--capacity", &capacity, "--course", course, "--json"]).await;
        let added: Value = serde_json::from_str(&added).expect("one JSON document");
        added["schedule_id"].as_str().expect("a schedule_id").to_owned()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.api))
    }

    /// A submit as a frontend makes it, not sent yet.
    pub(crate) fn submit_request(&self, token: &str, key: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, "/v1/orders").bearer_auth(token).header("Idempotency-Key", key).json(body)
    }

    /// Submits for any seat; answers the order's id.
    pub(crate) async fn submit(&self, token: &str, schedule: &str) -> String {
        let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
        let answer = Answer::of(self.submit_request(token, &Uuid::now_v7().to_string(), &body)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["order_id"].as_str().expect("an order_id").to_owned()
    }

    pub(crate) async fn order(&self, token: &str, order: &str) -> Answer {
        Answer::of(self.request(Method::GET, &format!("/v1/orders/{order}")).bearer_auth(token)).await
    }

    /// Waits until the order has the status, as its owner sees it.
    pub(crate) async fn until_status(&self, token: &str, order: &str, status: &str) -> Value {
        until(&format!("order {order} is {status}"), async || {
            let answer = self.order(token, order).await;
            (answer.body["status"] == status).then_some(answer.body)
        })
        .await
    }

    // ---- WeChat

    pub(crate) async fn pay(&self, order: &str) -> Answer {
        Answer::of(self.simulator_post("/_sim/pay", &json!({ "out_trade_no": order }))).await
    }

    pub(crate) async fn script(&self, script: &Value) {
        let answer = Answer::of(self.simulator_post("/_sim/script", script)).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    }

    pub(crate) async fn ledger(&self) -> Value {
        Answer::of(self.http.get(format!("{}/_sim/ledger", self.simulator.url))).await.body
    }

    /// Messages that the Official Account sent to this customer.
    pub(crate) async fn messages_to(&self, user: &str) -> Vec<Value> {
        let ledger = self.ledger().await;
        let messages = ledger["messages"].as_array().cloned().unwrap_or_default();
        messages.into_iter().filter(|message| message["touser"] == format!("openid-{user}")).collect()
    }

    /// Where the keys are that the merchant was given.
    pub(crate) fn keys(&self) -> PathBuf {
        KEYS.clone()
    }

    fn simulator_post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.simulator.url)).json(body)
    }

    // ---- books and queues

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.db).await.expect("a count")
    }

    pub(crate) async fn ready_in(&self, queue: &str) -> u32 {
        ready_in(&self.amqp_url, queue).await
    }

    /// Gives an account other rights at the broker than rabbitmq/permissions.json does; patterns of names.
    #[allow(dead_code, reason = "for the tests of rights")]
    pub(crate) async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let rights = json!({ "configure": configure, "write": write, "read": read });
        self.management.permit_user(&self.name, user, &rights).await;
    }

    /// `/healthz`, `/readyz` or `/metrics` of the ingress, at the address that it tells in its log.
    pub(crate) async fn health(&self, path: &str) -> Option<Answer> {
        let log = std::fs::read_to_string(self.log("api")).ok()?;
        let address = log.lines().rev().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["health"].as_str()?.to_owned())
        })?;
        Answer::try_of(self.http.get(format!("http://{address}{path}"))).await.ok()
    }

    pub(crate) async fn until_ready(&self) {
        // The first release told it on the customers' port.
        let is_former = self.executable != Choice::default().executable;
        let former = async || {
            let answer = self.request(Method::GET, "/readyz");
            if is_former { Some(answer.send().await.ok()?.status()) } else { None }
        };
        until("the API is ready", async || {
            let status = match self.health("/readyz").await {
                Some(answer) => answer.status,
                None => former().await?,
            };
            status.is_success().then_some(())
        })
        .await;
    }

    /// What every test must leave behind, whatever it did: no panic, no seat twice, each sold seat paid for once.
    pub(crate) async fn check_invariants(&self) {
        for entry in std::fs::read_dir(&self.directory).expect("the logs") {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path).expect("a log");
                if let Some(at) = log.find("panicked") {
                    panic!("{} tells of a panic: {}", path.display(), log[at..].lines().take(3).collect::<String>());
                }
            }
        }
        let double_seats = self
            .count(
                "SELECT count(*) FROM (SELECT 1 FROM seat_reservations WHERE status <> 'cancelled'
                  GROUP BY schedule_id, seat_no HAVING count(*) > 1) twice",
            )
            .await;
        assert_eq!(double_seats, 0, "a seat was sold twice");
        let oversold = self
            .count(
                "SELECT count(*) FROM course_schedules s WHERE s.capacity <>
                    (SELECT count(*) FROM free_seats f WHERE f.schedule_id = s.schedule_id) +
                    (SELECT count(*) FROM seat_reservations r WHERE r.schedule_id = s.schedule_id AND r.status <> 'cancelled')",
            )
            .await;
        assert_eq!(oversold, 0, "free and taken seats do not add up to the capacity");
        let unsettled = self
            .count(
                "SELECT count(*) FROM payment_orders o WHERE o.status = 'confirmed' AND NOT (
                    EXISTS (SELECT FROM bookings b WHERE b.order_id = o.order_id) AND
                    EXISTS (SELECT FROM seat_reservations r WHERE r.order_id = o.order_id AND r.status = 'confirmed') AND
                    EXISTS (SELECT FROM payment_transactions t WHERE t.order_id = o.order_id AND t.status = 'settled'
                               AND t.total_fen = o.amount_fen))",
            )
            .await;
        assert_eq!(unsettled, 0, "a confirmed order lacks its seat, booking or payment");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("logs of the stack: {}", self.directory.display());
        }
        // Databases, virtual hosts and keys would pile up over a day of runs.
        let (name, management) = (self.name.clone(), self.management.clone());
        finally(async move {
            management.drop_vhost(&name).await;
            drop_database(&name).await;
            drop_keys(&format!("{name}:")).await;
        });
    }
}

/// An HTTP answer, its body read as JSON (a text where it is none).
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        Self::try_of(request).await.expect("an answer")
    }

    pub(crate) async fn try_of(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        Ok(Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    /// The problem's slug, for asserting refusals.
    pub(crate) fn problem(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/")
    }
}

/// Waits until `look` answers something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: impl fmt::Display, look: impl FnMut() -> F) -> T {
    until_within(*PATIENCE.get_or_init(|| Duration::from_secs(60)), what, look).await
}

/// The same for what may take longer.
pub(crate) async fn until_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: impl fmt::Display,
    mut look: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A file of the checkout.
pub(crate) fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
