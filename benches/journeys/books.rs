//! What PostgreSQL alone can do: `pgbench` sends the SQL of a journey, one journey at a time.
//!
//! The script is not written by hand. One journey goes through a stack whose roles log every statement; the script is
//! those statements, letter for letter and in their order and transactions. Only the parameters are ours
//! ([`PARAMETERS`]), and a statement that is not known there fails the run: the script cannot fall behind the product.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use holdfast::store::Plans;
use serde_json::Value;

use crate::{
    crowd, quiet,
    stack::{Choice, Stack, WORKERS, server_resources::database_url, until},
};

/// Seats that a client may take in one run; more than it can.
const SEATS_PER_RUN: u32 = 2_500;
const CLIENTS: [u32; 3] = [8, 16, 32];

// Parameters in terms of `:n`, which no two journeys share, `:client_id` and `:seat`.
const ORDER: &str = "ARRAY['hf' || substr(md5(:n::text), 1, 24)]";
const USER: &str = "ARRAY['bench-' || :client_id::text]";
const SESSION: &str = "ARRAY[('00000000-0000-7000-8000-' || lpad(:client_id::text, 12, '0'))::uuid]";
const PAYMENT: &str = "ARRAY['42000000' || lpad(:n::text, 20, '0')]";
const HASH: &str = "ARRAY[sha256('one of 32 bytes')]";
const NO_TEXT: &str = "ARRAY[NULL::text]";
const NO_JSON: &str = "ARRAY[NULL::jsonb]";
const ONE_TEXT: &str = "ARRAY['something'::text]";
const NOW: &str = "ARRAY[now()]";
const SOON: &str = "(now() + interval '15 minutes')";
const FEN: &str = "ARRAY[20000::bigint]";
const NO_FEN: &str = "ARRAY[0::bigint]";
const SEAT_JSON: &str = "ARRAY['{\"seat_no\": 17}'::jsonb]";

type Parameters = &'static [&'static str];

/// How each statement of a journey begins, and its parameters: at its first, second, … occurrence in one.
const PARAMETERS: &[(&str, &[Parameters])] = &[
    ("SELECT now()", &[&[]]),
    ("SELECT clock_timestamp()", &[&[]]),
    ("SELECT schedule_id, price_fen, starts_at, status = 'open'", &[&[SESSION]]),
    ("SELECT order_id FROM payment_orders WHERE order_id = ANY($1)", &[&[ORDER]]),
    (
        "SELECT f.schedule_id, f.seat_no FROM unnest($1::uuid[], $2::bigint[])",
        &[&[SESSION, "ARRAY[1::bigint]", "'{}'", "'{}'"]],
    ),
    ("INSERT INTO users", &[&[USER, "ARRAY['the length of an openid that is sealed with its nonce'::bytea]"]]),
    (
        "INSERT INTO payment_orders",
        &[&[
            ORDER,
            USER,
            SESSION,
            "ARRAY['held'::order_status]",
            "ARRAY['native'::payment_channel]",
            FEN,
            "ARRAY[NULL::int]",
            "ARRAY[repeat('a', 64)]",
            NO_TEXT,
            NO_JSON,
            HASH,
            SOON,
            SOON,
            NOW,
        ]],
    ),
    ("WITH wish AS ( SELECT * FROM unnest", &[&[ORDER, SESSION, "ARRAY[:seat::int]", SOON]]),
    (
        "INSERT INTO payment_audit_log",
        &[
            &[
                "now()",
                ORDER,
                "ARRAY[1]",
                ONE_TEXT,
                "ARRAY['submitted'::order_status]",
                "ARRAY['held'::order_status]",
                ONE_TEXT,
                NO_TEXT,
                ONE_TEXT,
                NO_JSON,
                "ARRAY['{\"seat_no\": 17, \"hold_expires_at\": 1790000000, \"pay_before\": 1790000900}'::jsonb]",
                HASH,
                HASH,
            ],
            &[
                "now()",
                ORDER,
                "ARRAY[2]",
                ONE_TEXT,
                "ARRAY['held'::order_status]",
                "ARRAY['awaiting_payment'::order_status]",
                ONE_TEXT,
                NO_TEXT,
                NO_TEXT,
                SEAT_JSON,
                SEAT_JSON,
                HASH,
                HASH,
            ],
            &[
                "now()",
                ORDER,
                "ARRAY[3]",
                ONE_TEXT,
                "ARRAY['awaiting_payment'::order_status]",
                "ARRAY['confirmed'::order_status]",
                ONE_TEXT,
                NO_TEXT,
                ONE_TEXT,
                SEAT_JSON,
                "ARRAY['{\"seat_no\": 17, \"transaction_id\": \"4200000000202611220000000001\", \"paid_fen\": 20000}'::jsonb]",
                HASH,
                HASH,
            ],
        ],
    ),
    ("SELECT o.*, r.seat_no FROM payment_orders o", &[&[ORDER]]),
    ("SELECT order_id, kind FROM notifications", &[&[ORDER]]),
    ("SELECT o.schedule_id, o.order_id FROM payment_orders o WHERE o.schedule_id = ANY($1)", &[&[SESSION]]),
    ("SELECT o.order_id, o.status, o.channel, o.amount_fen, c.title", &[&[ORDER]]),
    ("SELECT FROM payment_orders WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE", &[&[ORDER]]),
    ("SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.amount_fen", &[&[ORDER]]),
    (
        "UPDATE payment_orders o SET status = t.status",
        &[
            &[
                ORDER,
                "ARRAY['awaiting_payment'::order_status]",
                "ARRAY['weixin://wxpay/bizpayurl?pr=abcdefg00']",
                NO_TEXT,
                NO_JSON,
                NO_TEXT,
                "ARRAY[NULL::timestamptz]",
                "ARRAY[NULL::bigint]",
                NO_FEN,
                NO_FEN,
                HASH,
            ],
            &[
                ORDER,
                "ARRAY['confirmed'::order_status]",
                NO_TEXT,
                NO_TEXT,
                NO_JSON,
                PAYMENT,
                NOW,
                FEN,
                NO_FEN,
                NO_FEN,
                HASH,
            ],
        ],
    ),
    ("WITH seat AS ( UPDATE seat_reservations SET status = 'confirmed'", &[&[ORDER]]),
    (
        "INSERT INTO payment_transactions",
        &[&[
            PAYMENT,
            ORDER,
            "ARRAY['settled'::transaction_status]",
            FEN,
            FEN,
            "ARRAY['CNY']",
            "ARRAY['NATIVE']",
            "ARRAY['OTHERS']",
            "ARRAY['1900000109']",
            "ARRAY['wx8888888888888888']",
            NOW,
            "ARRAY['callback']",
            ONE_TEXT,
        ]],
    ),
    (
        "INSERT INTO wechat_callbacks",
        &[&[
            "ARRAY['callback-' || md5(:n::text)]",
            "ARRAY['hf' || substr(md5(:n::text), 1, 24)]",
            "ARRAY['settled']",
            ONE_TEXT,
        ]],
    ),
    ("INSERT INTO notifications", &[&[ORDER, "'booking_confirmed'"]]),
    ("SELECT order_id, refund_id FROM refunds", &[&[ORDER]]),
    (
        "WITH before AS ( SELECT order_id, kind, in_doubt_since",
        &[&[ORDER, "ARRAY['booking_confirmed'::notification_kind]"]],
    ),
    (
        "UPDATE notifications n SET status = t.status",
        &[&[
            ORDER,
            "ARRAY['booking_confirmed'::notification_kind]",
            "ARRAY['sent'::notification_status]",
            "ARRAY[4000000000::bigint]",
            "ARRAY[NULL::int]",
            NO_TEXT,
            "ARRAY[false]",
        ]],
    ),
];

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
    pub(crate) async fn prepare(runs: u32) -> Option<Self> {
        let program = program()?;
        let mut settings = quiet();
        settings.push(("HOLDFAST_LOG__FILTER", "warn,sqlx::query=debug,holdfast::store=trace".into()));
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
        let steps: Vec<String> = WORKERS.iter().flat_map(|worker| steps(&stack.log(worker))).collect();
        for worker in WORKERS {
            stack.kill(worker);
        }
        stack.kill("api");
        let script = stack.artifact("journey.sql");
        fs::write(&script, script_of(&steps)).expect("a script");
        make_sessions(&stack, runs * CLIENTS.len() as u32).await;
        let transactions = steps.iter().filter(|step| *step == COMMIT).count();
        let statements = steps.len() - transactions;
        Some(Self { program, script, stack, runs: 0, statements, transactions })
    }

    /// Journeys per second for each number of clients.
    pub(crate) async fn run(&mut self, length: Duration) -> Vec<(u32, f64)> {
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
            found.push((clients, tps.unwrap_or_else(|| panic!("pgbench: {words}{errors}"))));
        }
        found
    }
}

const COMMIT: &str = "COMMIT";
/// How statements begin that a process makes for itself, whenever it comes to them, and that are no part of a journey: what a
/// connection is told as it begins (a pool may grow at any time), the trace of orders, which is written in sets some time
/// after, and the look at the account's rights.
const OF_THE_PROCESS: [&str; 3] = ["SET ", "WITH unhurried AS", "SELECT current_user"];

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

/// The statements that a worker has logged, and [`COMMIT`] where a transaction ended.
fn steps(log: &Path) -> Vec<String> {
    let log = fs::read_to_string(log).expect("a log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches('\0')).ok());
    lines
        .filter_map(|line| match line["target"].as_str()? {
            "sqlx::query" => {
                let whole = line["db.statement"].as_str().filter(|text| !text.trim().is_empty());
                let text = whole.or(line["summary"].as_str())?;
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let of_the_process = OF_THE_PROCESS.iter().any(|beginning| text.starts_with(beginning));
                (!of_the_process && !text.contains("pg_type") && !text.is_empty()).then_some(text)
            }
            "holdfast::store" if line["message"] == "committed" => Some(COMMIT.to_owned()),
            _ => None,
        })
        .collect()
}

fn script_of(steps: &[String]) -> String {
    let mut script =
        String::from("\\set i :i + 1\n\\set n :base + :client_id * 1000000 + :i\n\\set seat :first + :i\n");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for step in steps {
        if step == COMMIT {
            script.push_str("COMMIT;\n");
            continue;
        }
        let known = PARAMETERS.iter().find(|(beginning, _)| step.starts_with(beginning));
        let (beginning, occurrences) = known
            .unwrap_or_else(|| panic!("a statement whose parameters benches/journeys/books.rs does not know: {step}"));
        let occurrence = seen.entry(beginning).or_default();
        let parameters = occurrences[(*occurrence).min(occurrences.len() - 1)];
        *occurrence += 1;
        // Every transaction of ours begins with the database's clock.
        if *beginning == "SELECT now()" {
            script.push_str("BEGIN;\n");
        }
        let mut statement = step.clone();
        for (number, parameter) in parameters.iter().enumerate().rev() {
            statement = statement.replace(&format!("${}", number + 1), parameter);
        }
        assert!(!statement.contains('$'), "a parameter of {statement} is missing in benches/journeys/books.rs");
        script.push_str(&statement);
        script.push_str(";\n");
    }
    script
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
