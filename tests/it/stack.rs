//! A whole holdfast of a test's own: real processes, its own database, virtual host, key prefix and simulator
//! on the shared private servers. When it goes, so does everything it made.

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;
use uuid::Uuid;
use wechat_sim::{Keys, Running};

#[path = "server_resources.rs"]
pub(crate) mod server_resources;

use server_resources::{
    Management, account, database_url, drop_database, drop_keys, finally, make_database, ready_in, server,
};

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
        let db = make_database(&name).await;
        let management = Management::from_environment();
        let amqp_url = management.make_vhost(&name).await;

        let api_port = free_port().await;
        let api = format!("http://127.0.0.1:{api_port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let simulator_settings =
            wechat_sim::Settings { callback_speed: choice.callback_speed, ..wechat_sim::Settings::default() };
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
            http: Client::builder().no_proxy().build().expect("a client"),
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

    // ---- processes

    /// Starts the process of one role: `api` or a worker.
    pub(crate) fn spawn(&mut self, role: &'static str) {
        let log = File::options().create(true).append(true).open(self.log(role)).expect("a log");
        let arguments: &[&str] = if role == "api" { &["api"] } else { &["worker", role] };
        let child = self
            .command(arguments)
            .envs(self.accounts(role))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.processes.insert(role, child.expect("the executable starts"));
    }

    /// Each process works under an account of its own at PostgreSQL and RabbitMQ, which may do no more than it must: so
    /// every test is one of these rights too.
    fn accounts(&self, role: &str) -> Vec<(&'static str, String)> {
        if self.executable != Choice::default().executable {
            // A former release, as it was installed: before there were such accounts.
            return Vec::new();
        }
        let account = |setting: &str, kind: &str| account(&self.environment[setting], kind);
        if role == "api" {
            vec![
                ("DATABASE_URL", account("DATABASE_URL", "ingress")),
                ("HOLDFAST_DATABASE__OPERATORS_URL", account("DATABASE_URL", "desk")),
                ("AMQP_URL", account("AMQP_URL", "api")),
            ]
        } else {
            vec![("DATABASE_URL", account("DATABASE_URL", role)), ("AMQP_URL", account("AMQP_URL", role))]
        }
    }

    /// Ends a process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self, role: &'static str) {
        let mut child = self.processes.remove(role).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ended");
    }

    /// Asks a process to stop and waits for its end.
    pub(crate) async fn terminate(&mut self, role: &'static str) -> std::process::ExitStatus {
        let mut child = self.processes.remove(role).expect("it runs");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        tokio::task::spawn_blocking(move || child.wait().expect("it ended")).await.expect("waited")
    }

    pub(crate) fn is_running(&mut self, role: &'static str) -> bool {
        self.processes.get_mut(role).is_some_and(|child| child.try_wait().expect("known").is_none())
    }

    #[allow(dead_code, reason = "for floods, the benchmark and the soak")]
    pub(crate) fn pid(&self, role: &str) -> u32 {
        self.processes[role].id()
    }

    /// What runs.
    #[allow(dead_code, reason = "for those who read all logs")]
    pub(crate) fn roles(&self) -> impl Iterator<Item = &'static str> {
        self.processes.keys().copied()
    }

    pub(crate) fn log(&self, role: &str) -> PathBuf {
        self.directory.join(format!("{role}.log"))
    }

    /// Where a test may leave what people should look at: outside git, told in the test's output.
    pub(crate) fn artifact(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments).env_clear().envs(&self.environment);
        command
    }

    /// Runs a command of the executable to its end: exit code, standard output, standard error.
    pub(crate) async fn holdfast(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().expect("the executable starts"));
        let output = output.await.expect("waited");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    pub(crate) async fn holdfast_ok(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.holdfast(arguments).await;
        assert_eq!(code, 0, "holdfast {arguments:?} failed: {stderr}");
        stdout
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

    pub(crate) async fn until_ready(&self) {
        until("the API is ready", async || {
            let answer = self.request(Method::GET, "/readyz").send().await.ok()?;
            answer.status().is_success().then_some(())
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
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    until_within(*PATIENCE.get_or_init(|| Duration::from_secs(60)), what, look).await
}

/// The same for what may take longer.
pub(crate) async fn until_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
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

fn settings_of(name: &str, amqp_url: &str, api: &str, api_port: u16, simulator: &str) -> BTreeMap<String, String> {
    let line = |file: &str| std::fs::read_to_string(KEYS.join(file)).expect("a key file").trim().to_owned();
    let path = |file: &str| KEYS.join(file).to_str().expect("a UTF-8 path").to_owned();
    let defaults = wechat_sim::Settings::default();
    let mut environment: BTreeMap<String, String> = [
        ("DATABASE_URL", database_url(name)),
        ("AMQP_URL", amqp_url.to_owned()),
        ("REDIS_URL", server("REDIS_URL")),
        ("HOLDFAST_API", api.to_owned()),
        ("HOLDFAST_SIMULATOR", simulator.to_owned()),
        ("HOLDFAST_CACHE__KEY_PREFIX", format!("{name}:")),
        // A busy machine is not a broker that is away.
        ("HOLDFAST_BROKER__CONFIRM_MS", "12000".into()),
        ("HOLDFAST_DATABASE__MAX_CONNECTIONS", "6".into()),
        ("HOLDFAST_API__LISTEN", format!("127.0.0.1:{api_port}")),
        ("HOLDFAST_API__DEVELOPMENT", "true".into()),
        ("HOLDFAST_API__PHONE_URL", format!("{simulator}/phone")),
        ("HOLDFAST_AUTH__SECRET", "a secret of tests, long enough for HS256".into()),
        ("HOLDFAST_PERSONAL__KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".into()),
        ("HOLDFAST_LOG__FORMAT", "json".into()),
        ("HOLDFAST_LOG__FILTER", "info,holdfast=debug".into()),
        ("HOLDFAST_WECHAT_PAY__BASE_URL", simulator.to_owned()),
        ("HOLDFAST_WECHAT_PAY__APPID", defaults.appid.clone()),
        ("HOLDFAST_WECHAT_PAY__MCHID", defaults.mchid),
        ("HOLDFAST_WECHAT_PAY__MERCHANT_SERIAL_NO", line("merchant_serial_no")),
        ("HOLDFAST_WECHAT_PAY__MERCHANT_PRIVATE_KEY_FILE", path("merchant_private_key.pem")),
        ("HOLDFAST_WECHAT_PAY__APIV3_KEY_FILE", path("apiv3_key")),
        ("HOLDFAST_WECHAT_PAY__PUBLIC_KEY_ID", line("public_key_id")),
        ("HOLDFAST_WECHAT_PAY__PUBLIC_KEY_FILE", path("public_key.pem")),
        ("HOLDFAST_WECHAT_PAY__NOTIFY_URL", format!("{api}/v1/wechat/notify/payments")),
        ("HOLDFAST_WECHAT_PAY__REFUND_NOTIFY_URL", format!("{api}/v1/wechat/notify/refunds")),
        ("HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL", simulator.to_owned()),
        ("HOLDFAST_OFFICIAL_ACCOUNT__APPID", defaults.appid),
        ("HOLDFAST_OFFICIAL_ACCOUNT__SECRET", defaults.official_account_secret),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    for kind in holdfast::domain::notification::Kind::ALL {
        let setting = format!("HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__{}", kind.as_str().to_uppercase());
        environment.insert(setting, format!("template-of-{}", kind.as_str()));
    }
    environment
}

/// A port that nobody has, and that nobody is given in the moment before it is used: below the range that the
/// system hands out by itself, and each but once in a run.
pub(crate) async fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let start = u16::try_from(std::process::id() % 5_000).expect("small");
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 15_000;
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}

/// Where an instrumented process writes which of its lines ran (`./dev test coverage`); otherwise nothing. Process ids
/// come round again within a run, so each asker has a file name of its own.
pub(crate) fn coverage() -> Option<(String, String)> {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let name = "LLVM_PROFILE_FILE";
    let asker = format!("%p-{}", ASKED.fetch_add(1, Ordering::Relaxed));
    std::env::var(name).ok().map(|file| (name.to_owned(), file.replace("%p", &asker)))
}

/// A file of the checkout.
pub(crate) fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
