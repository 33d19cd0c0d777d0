//! A second process of every role, which may be killed at any time. The first ones live from beginning to end, so that
//! their memory and connections can be judged.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{Child, Command, Stdio},
};

use crate::stack::{Stack, WORKERS, free_port};

pub(crate) struct Twins {
    /// Where the second ingress answers.
    pub api: String,
    listen: String,
    environment: BTreeMap<String, String>,
    log: std::path::PathBuf,
    running: BTreeMap<&'static str, Child>,
}

pub(crate) const ROLES: [&str; 8] =
    ["api", WORKERS[0], WORKERS[1], WORKERS[2], WORKERS[3], WORKERS[4], WORKERS[5], "reconcile"];

impl Twins {
    pub(crate) async fn of(stack: &Stack) -> Self {
        let listen = format!("127.0.0.1:{}", free_port().await);
        let mut twins = Self {
            api: format!("http://{listen}"),
            listen,
            environment: stack.environment.clone(),
            log: stack.log("twin"),
            running: BTreeMap::new(),
        };
        for role in ROLES {
            twins.start(role);
        }
        twins
    }

    pub(crate) fn start(&mut self, role: &'static str) {
        let log = File::options().create(true).append(true).open(self.log.with_file_name(format!("{role}-twin.log")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.args(if role == "api" { vec!["api"] } else { vec!["worker", role] });
        command.env_clear().envs(&self.environment).env("HOLDFAST_API__LISTEN", &self.listen);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log")).spawn();
        self.running.insert(role, child.expect("the executable starts"));
    }

    /// `KILL`, `TERM`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, role: &str, signal: &str) {
        let pid = self.running[role].id().to_string();
        let _ = Command::new("kill").args(["-s", signal, &pid]).status();
    }

    /// Waits for the end of a process that was asked to, and starts it again.
    pub(crate) async fn replace(&mut self, role: &'static str) {
        let mut child = self.running.remove(role).expect("it runs");
        let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        self.start(role);
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
