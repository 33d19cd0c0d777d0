//! The servers that these tests may break: a set of `./dev`'s own kind, under a directory of its own.

use std::{path::PathBuf, process::Command};

use tokio::sync::{Mutex, MutexGuard};

use crate::stack::Choice;

/// Tests run side by side, but only one may break the servers.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A stack's choices where its servers come and go. WeChat's resend schedule has gaps of minutes; here a callback
/// that was refused comes again within seconds. And the limit on a confirm is that of production: WeChat hangs up
/// after five seconds, so the callback must have been refused by then.
pub(crate) fn choice() -> Choice {
    Choice {
        settings: vec![("HOLDFAST_BROKER__CONFIRM_MS", "3000".into())],
        callback_speed: 500.0,
        ..Choice::default()
    }
}

pub(crate) struct Servers {
    directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Servers {
    /// All three, running, until this is dropped.
    pub(crate) async fn ours() -> Self {
        let alone = ALONE.lock().await;
        let directory =
            std::env::var("HOLDFAST_DEV_DIR").expect("servers that may be broken: run `./dev test outages`");
        let servers = Self { directory: directory.into(), _alone: alone };
        servers.start().await;
        servers
    }

    /// Starts those that do not run; returns when they are ready.
    pub(crate) async fn start(&self) {
        self.dev(&["servers"]).await;
    }

    /// Stops `postgres`, `rabbitmq` or `redis` in order.
    pub(crate) async fn stop(&self, server: &str) {
        self.dev(&["down", server]).await;
    }

    pub(crate) async fn restart(&self, server: &str) {
        self.stop(server).await;
        self.start().await;
    }

    /// Ends a server by a signal that leaves it no time to say goodbye, and starts it again.
    pub(crate) async fn crash(&self, server: &str, signal: &str) {
        self.kill(server, signal);
        self.restart(server).await;
    }

    pub(crate) fn kill(&self, server: &str, signal: &str) {
        let file = self.directory.join(format!("run/{server}.pid"));
        let noted = std::fs::read_to_string(file).expect("its pid");
        let pid = noted.split_whitespace().next().expect("a number");
        assert!(Command::new("kill").args(["-s", signal, pid]).status().expect("kill runs").success());
    }

    /// Has RabbitMQ's own tool do something to the broker.
    #[allow(dead_code, reason = "for the alarms")]
    pub(crate) async fn rabbitmqctl(&self, arguments: &[&str]) {
        self.dev(&[&["rabbitmqctl"], arguments].concat()).await;
    }

    async fn dev(&self, arguments: &[&str]) {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev"));
        command.args(arguments).env("HOLDFAST_DEV_DIR", &self.directory);
        let output = tokio::task::spawn_blocking(move || command.output().expect("./dev runs")).await.expect("waited");
        assert!(output.status.success(), "./dev {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
