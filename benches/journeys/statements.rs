//! The statements of one journey as the roles log them, and the script of `pgbench` that is made of them.
//!
//! The benchmark and a test of the suite share this file: the test makes the script of a journey and runs it once, so that
//! a statement that changes in `src/store` and not here is found before anything is measured.

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

/// What a role logs so that its statements and commits can be read from its log.
pub(crate) const LOG_FILTER: &str = "warn,holdfast::process=info,sqlx::query=debug,holdfast::store=trace";

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
const SOON: &str = "ARRAY[now() + interval '15 minutes']";
const FEN: &str = "ARRAY[20000::bigint]";
const NO_FEN: &str = "ARRAY[0::bigint]";
const SEAT_JSON: &str = "ARRAY['{\"seat_no\": 17}'::jsonb]";

type Parameters = &'static [&'static str];

/// How each statement of a journey begins, and its parameters: at its first, second, … occurrence in one.
const PARAMETERS: &[(&str, &[Parameters])] = &[
    ("SELECT now()", &[&[]]),
    ("SELECT clock_timestamp()", &[&[]]),
    ("SELECT schedule_id, price_fen, status = 'open' AS takes_place", &[&[SESSION]]),
    ("SELECT pg_advisory_xact_lock(name)", &[&[USER]]),
    ("SELECT order_id FROM payment_orders WHERE order_id = ANY($1)", &[&[ORDER]]),
    (
        "SELECT f.schedule_id, f.seat_no FROM unnest($1::uuid[], $2::bigint[])",
        &[&[SESSION, "ARRAY[1::bigint]", "'{}'", "'{}'"]],
    ),
    ("SELECT w.schedule_id, w.user_id, count(*)", &[&[SESSION, USER]]),
    ("SELECT schedule_id, coalesce(sale_closes_at, starts_at)", &[&[SESSION]]),
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
    ("WITH wish AS ( SELECT t.order_id", &[&[ORDER, SESSION, "ARRAY[:seat::int]", SOON]]),
    ("UPDATE seat_reservations r SET took_last = true", &[&[ORDER]]),
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
    ("SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.channel", &[&[ORDER]]),
    ("SELECT order_id, kind FROM notifications", &[&[ORDER]]),
    ("SELECT o.order_id FROM seat_reservations r JOIN payment_orders o", &[&[ORDER, "100"]]),
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
    ("SELECT transaction_id, order_id FROM payment_transactions", &[&[PAYMENT]]),
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
    ("SELECT w.order_id, w.facts FROM wechat_refunds w", &[&[ORDER]]),
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

/// Stands among the statements where a transaction ended.
pub(crate) const COMMIT: &str = "COMMIT";
/// How statements begin that a process makes for itself, whenever it comes to them, and that are no part of a journey: what a
/// connection is told as it begins (a pool may grow at any time), the trace of orders, which is written in sets some time
/// after, and the looks at the account's rights and at the keys that openids are sealed with.
const OF_THE_PROCESS: [&str; 4] =
    ["SET ", "WITH unhurried AS", "SELECT current_user", "SELECT name, openids, dead_letters"];

/// The statements that a worker has logged, each in one line, and [`COMMIT`] where a transaction ended.
pub(crate) fn steps(log: &Path) -> Vec<String> {
    let log = fs::read_to_string(log).expect("a log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches('\0')).ok());
    lines
        .filter_map(|line| match line["target"].as_str()? {
            "sqlx::query" => {
                let whole = line["db.statement"].as_str().filter(|text| !text.trim().is_empty());
                let text = in_one_line(whole.or(line["summary"].as_str())?);
                let of_the_process = OF_THE_PROCESS.iter().any(|beginning| text.starts_with(beginning));
                (!of_the_process && !text.contains("pg_type") && !text.is_empty()).then_some(text)
            }
            "holdfast::store" if line["message"] == "committed" => Some(COMMIT.to_owned()),
            _ => None,
        })
        .collect()
}

/// Without the comments, which would hide what follows them in the same line.
fn in_one_line(statement: &str) -> String {
    let words = statement.lines().flat_map(|line| line.split("--").next().unwrap_or_default().split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// The script of `pgbench` for these statements.
///
/// # Errors
/// Every statement that [`PARAMETERS`] does not know, or not with all of its parameters; each once.
pub(crate) fn script_of(steps: &[String]) -> Result<String, Vec<String>> {
    let mut script =
        String::from("\\set i :i + 1\n\\set n :base + :client_id * 1000000 + :i\n\\set seat :first + :i\n");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut unknown: Vec<String> = Vec::new();
    for step in steps {
        if step == COMMIT {
            script.push_str("COMMIT;\n");
            continue;
        }
        let Some((beginning, occurrences)) = PARAMETERS.iter().find(|(beginning, _)| step.starts_with(beginning))
        else {
            unknown.push(step.clone());
            continue;
        };
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
        if statement.contains('$') {
            unknown.push(step.clone());
        }
        script.push_str(&statement);
        script.push_str(";\n");
    }
    unknown.sort();
    unknown.dedup();
    if unknown.is_empty() { Ok(script) } else { Err(unknown) }
}
