//! The processes of a stack: what they have in their environment, how they are started, killed and asked.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, AtomicUsize, Ordering},
};

use holdfast::process::{role::Role, secrets::Secret};
use tokio::net::TcpListener;

use super::{
    Choice, KEYS, Stack,
    server_resources::{database_url, server},
};

impl Stack {
    /// Starts the process of one role: `api` or a worker.
    pub(crate) fn spawn(&mut self, role: &'static str) {
        let log = File::options().create(true).append(true).open(self.log(role)).expect("a log");
        let arguments: &[&str] = if role == "api" { &["api"] } else { &["worker", role] };
        let mut command = self.command(arguments);
        for setting in self.not_for(role) {
            command.env_remove(setting);
        }
        let child = command.envs(self.accounts(role)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.processes.insert(role, child.expect("the executable starts"));
    }

    /// Each process works under an account of its own at PostgreSQL and RabbitMQ, which may do no more than it must: so
    /// every test is one of these rights too.
    pub(crate) fn accounts(&self, role: &str) -> Vec<(&'static str, String)> {
        if self.executable != Choice::default().executable {
            // A former release, as it was installed: before there were such accounts.
            return Vec::new();
        }
        let accounts = Role::of_name(role).expect("a role").accounts().into_iter();
        accounts.map(|account| (account.setting, account.address(&self.environment[account.server]))).collect()
    }

    /// Settings with secrets that this role does not need: each process has its own alone, as it is installed. So every
    /// test shows that they are enough.
    fn not_for(&self, role: &str) -> Vec<String> {
        if self.executable != Choice::default().executable {
            // A former release takes all settings in every process.
            return Vec::new();
        }
        let role = Role::of_name(role).expect("a role");
        let settings = holdfast::config::load(self.environment.clone()).settings;
        let needs = |secret: &Secret| match &settings {
            Ok(settings) => role.needs(*secret).holds(settings),
            Err(_) => true,
        };
        let surplus = Secret::ALL.into_iter().filter(|secret| !needs(secret)).flat_map(Secret::settings);
        surplus.map(|setting| format!("HOLDFAST_{}", setting.to_uppercase().replace('.', "__"))).collect()
    }

    /// Ends a process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self, role: &'static str) {
        let mut child = self.processes.remove(role).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ended");
    }

    /// Asks a process to stop and waits for its end.
    pub(crate) async fn terminate(&mut self, role: &'static str) -> ExitStatus {
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
}

pub(super) fn settings_of(
    name: &str,
    amqp_url: &str,
    api: &str,
    api_port: u16,
    simulator: &str,
) -> BTreeMap<String, String> {
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
        // A busy machine is not a server that is away.
        ("HOLDFAST_BROKER__CONFIRM_MS", "12000".into()),
        ("HOLDFAST_CACHE__CALL_LIMIT_MS", "1500".into()),
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
