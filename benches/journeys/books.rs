//! What PostgreSQL alone can do: `pgbench` sends the SQL of a journey, one journey at a time.
//!
//! The script is not written by hand. One journey goes through a stack whose roles log every statement; the script is
//! those statements, letter for letter and in their order and transactions. Only the parameters are ours
//! ([`statements::PARAMETERS`]). When a statement is not known there, nothing is measured of `pgbench`, and the run fails
//! at its end with all of them: the script cannot fall behind the product.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use holdfast::store::Plans;

use crate::{
    crowd, quiet,
    stack::{Choice, Stack, WORKERS, server_resources::database_url, until},
    statements::{self, COMMIT},
};

/// Seats that a client may take in one run; more than it can.
const SEATS_PER_RUN: u32 = 2_500;
const CLIENTS: [u32; 3] = [8, 16, 32];

/// `pgbench`, its script and the database it works on.
pub(crate) struct Pgbench {
    program: PathBuf,
    script: PathBuf,
    stack: Stack,
    runs: u32,
    pub(crate) statements: usize,
    pub(crate) transactions: usize,
}

impl Pgbench {
    /// Watches a journey and makes the script; `None` without `pgbench` on this machine.
    ///
    /// # Errors
    /// The statements whose parameters are not known.
    pub(crate) async fn prepare(runs: u32) -> Result<Option<Self>, Vec<String>> {
        let Some(program) = program() else { return Ok(None) };
        let mut settings = quiet();
        settings.push(("HOLDFAST_LOG__FILTER", statements::LOG_FILTER.into()));
        // A look at WeChat while the machine is busy is no part of the journey.
        settings.push(("HOLDFAST_ORDER__CHECK_SECONDS", "600".into()));
        let mut stack = Stack::start_with("bench_books", Choice { settings, ..Choice::default() }).await;
        // The first journey also makes connections and asks for the numbers of types.
        for _ in 0..2 {
            mark(&stack);
            crowd::at_once(&stack, 1).await;
            until("the customer was told", async || {
                let pending = "SELECT count(*) FROM notifications WHERE status = 'pending'";
                (stack.count(pending).await == 0).then_some(())
            })
            .await;
        }
        let steps: Vec<String> = WORKERS.iter().flat_map(|worker| statements::steps(&stack.log(worker))).collect();
        for worker in WORKERS {
            stack.kill(worker);
        }
        stack.kill("api");
        let script = stack.artifact("journey.sql");
        fs::write(&script, statements::script_of(&steps)?).expect("a script");
        make_sessions(&stack, runs * CLIENTS.len() as u32).await;
        let transactions = steps.iter().filter(|step| *step == COMMIT).count();
        let statements = steps.len() - transactions;
        Ok(Some(Self { program, script, stack, runs: 0, statements, transactions }))
    }

    /// Journeys per second for each number of clients.
    ///
    /// # Errors
    /// What `pgbench` printed instead.
    pub(crate) async fn run(&mut self, length: Duration) -> Result<Vec<(u32, f64)>, String> {
        let mut found = Vec::new();
        for clients in CLIENTS {
            let mut command = Command::new(&self.program);
            let options: Vec<String> =
                Plans::ByKey.settings().iter().map(|(name, value)| format!("-c {name}={value}")).collect();
            command
                .args(["--no-vacuum", "--protocol=prepared", "--define=i=0", "--jobs=4"])
                .arg(format!("--client={clients}"))
                .arg(format!("--time={}", length.as_secs().max(1)))
                .arg(format!("--define=base={}", i64::from(self.runs) * 100_000_000))
                .arg(format!("--define=first={}", self.runs * SEATS_PER_RUN))
                .arg("--file")
                .arg(&self.script)
                .arg(database_url(&self.stack.name))
                .env("PGOPTIONS", options.join(" "));
            self.runs += 1;
            let output = tokio::task::spawn_blocking(move || command.output().expect("pgbench starts"));
            let output = output.await.expect("waited");
            let words = String::from_utf8_lossy(&output.stdout).into_owned();
            let tps = words.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
            let errors = String::from_utf8_lossy(&output.stderr);
            found.push((clients, tps.ok_or_else(|| format!("pgbench: {words}{errors}"))?));
        }
        Ok(found)
    }
}

/// From here on the logs are of the next journey.
fn mark(stack: &Stack) {
    for worker in WORKERS {
        fs::write(stack.log(worker), "").expect("a log");
    }
}

fn program() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|version| version.path().join("bin/pgbench")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).map(|directory| directory.join("pgbench")));
    found.into_iter().find(|program| program.exists())
}

/// A session for each client, so that none waits for another's.
async fn make_sessions(stack: &Stack, runs: u32) {
    sqlx::query(
        "INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity)
         SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'pottery', now() + interval '30 days', 20000, $1
           FROM generate_series(0, 31) n",
    )
    .bind(i32::try_from(runs * SEATS_PER_RUN).expect("a room's size"))
    .execute(&stack.db)
    .await
    .expect("sessions");
    sqlx::query(
        "INSERT INTO free_seats SELECT schedule_id, generate_series(1, capacity) FROM course_schedules
          WHERE schedule_id::text LIKE '00000000-%'",
    )
    .execute(&stack.db)
    .await
    .expect("seats");
}
