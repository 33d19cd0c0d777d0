//! What was measured, for programs (`target/bench.json`) and for people.

use std::fs;

use serde_json::{Map, Value};

use crate::stack::checkout;

const KEYS: [&str; 13] = [
    "journeys_per_s",
    "pgbench_journeys_per_s",
    "ratio_pgbench",
    "publish_confirms_per_s",
    "ingress_202_per_s",
    "ratio_publish",
    "click_to_qr_ms",
    "callback_to_confirmed_ms",
    "cpu_ms_per_journey",
    "rsa_sign_per_s",
    "rss_mib",
    "growth",
    "burst",
];

/// What a part of the benchmark finds.
pub(crate) fn keys_of(part: &str) -> &'static [&'static str] {
    match part {
        "signatures" => &["rsa_sign_per_s"],
        "publishes" => &["publish_confirms_per_s"],
        "ingress" => &["ingress_202_per_s", "ingress"],
        "journeys" => &[
            "journeys_per_s",
            "pgbench_journeys_per_s",
            "journey_sql",
            "cpu_ms_per_journey",
            "rss_mib",
            "click_to_qr_ms",
            "callback_to_confirmed_ms",
            "at_once",
        ],
        "growth" => &["growth"],
        _ => &["burst"],
    }
}

/// Nothing measured yet.
pub(crate) fn empty() -> Map<String, Value> {
    KEYS.iter().map(|key| ((*key).to_owned(), Value::Null)).collect()
}

pub(crate) fn read() -> Option<Map<String, Value>> {
    let text = fs::read_to_string(checkout("target/bench.json")).ok()?;
    match serde_json::from_str(&text).ok()? {
        Value::Object(report) => Some(report),
        _ => None,
    }
}

pub(crate) fn write(report: &Map<String, Value>) {
    let file = checkout("target/bench.json");
    fs::write(&file, format!("{:#}\n", Value::Object(report.clone()))).expect("target/ can be written");
}

/// The table, in Markdown.
pub(crate) fn table(report: &Map<String, Value>) -> String {
    let nothing = Value::Null;
    let get = |path: &str| {
        path.split('.').fold(None, |at: Option<&Value>, name| match at {
            None => report.get(name),
            Some(value) => value.get(name),
        })
    };
    let text = |path: &str| number(get(path).unwrap_or(&nothing));
    let times =
        |path: &str| format!("p50 {} ms, p99 {} ms", text(&format!("{path}.p50")), text(&format!("{path}.p99")));
    let mut rows = vec![
        ("(a) whole journeys".to_owned(), format!("{} /s", text("journeys_per_s")), String::new()),
        (
            "(b) `pgbench`: the SQL of a journey alone".to_owned(),
            format!("{} /s", text("pgbench_journeys_per_s")),
            format!("a/b ≥ 0.30: **{}**", text("ratio_pgbench")),
        ),
        (
            "click → QR code, 100 customers".to_owned(),
            times("click_to_qr_ms"),
            within(get("click_to_qr_ms.p99"), 100.0, "p99 ≤ 100 ms"),
        ),
        (
            "paid → confirmed, half the rate of (a)".to_owned(),
            times("callback_to_confirmed_ms"),
            within(get("callback_to_confirmed_ms.p99"), 100.0, "p99 ≤ 100 ms"),
        ),
        ("click → QR code, 100 in the same instant".to_owned(), times("at_once.click_to_qr_ms"), String::new()),
        (
            "(c) confirmed publishes to one quorum queue".to_owned(),
            format!("{} /s", text("publish_confirms_per_s")),
            String::new(),
        ),
        (
            "(g) the ingress alone: 202s".to_owned(),
            format!("{} /s", text("ingress_202_per_s")),
            format!("g/c ≥ 0.5: **{}**", text("ratio_publish")),
        ),
    ];
    for one in get("ingress").and_then(Value::as_array).into_iter().flatten() {
        let what = format!("(g) at {} connections", number(&one["connections"]));
        rows.push((
            what,
            format!("{} /s, p99 {} ms", number(&one["per_s"]), number(&one["ms"]["p99"])),
            costs(&one["cpu_ms_each"]),
        ));
    }
    rows.push((
        "(d) RSA-2048 signatures on one core".to_owned(),
        format!("{} /s", text("rsa_sign_per_s")),
        String::new(),
    ));
    let signatures =
        get("cpu_ms_per_journey.ours").and_then(Value::as_f64).zip(get("rsa_sign_per_s").and_then(Value::as_f64));
    let signatures = signatures.map(|(ms, per_s)| format!("e = {:.1} signatures (d)", ms * per_s / 1_000.0));
    rows.push((
        "(e) CPU of a journey, holdfast's processes".to_owned(),
        format!("{} ms", text("cpu_ms_per_journey.ours")),
        signatures.unwrap_or_default(),
    ));
    for size in get("growth").and_then(Value::as_array).into_iter().flatten() {
        let per_s = size["journeys_per_s"].as_f64().zip(size["empty_journeys_per_s"].as_f64());
        let ratio = per_s.map(|(grown, empty)| format!("≥ 0.9 of the empty rate: **{:.2}**", grown / empty));
        rows.push((
            format!("(h) {} stored orders", number(&size["orders"])),
            format!(
                "{} journeys/s, {} in turns with none stored",
                number(&size["journeys_per_s"]),
                number(&size["empty_journeys_per_s"])
            ),
            ratio.unwrap_or_default(),
        ));
    }
    rows.push((
        format!("(i) burst: {} requests for {} seats", text("burst.requests"), text("burst.seats")),
        format!(
            "answered in {} s, decided in {} s, every code after {} s",
            text("burst.all_taken_s"),
            text("burst.all_decided_s"),
            text("burst.all_codes_s")
        ),
        format!("{} sold, {} rejected", text("burst.sold"), text("burst.rejected")),
    ));
    let mut table = String::from("\n| measured | | |\n|---|---|---|\n");
    for (what, found, beside) in rows {
        table.push_str(&format!("| {what} | {found} | {beside} |\n"));
    }
    table.push_str("\n| (e), (f) by role | CPU ms per journey | MiB resident |\n|---|---|---|\n");
    for (role, ms) in get("cpu_ms_per_journey").and_then(Value::as_object).into_iter().flatten() {
        table.push_str(&format!("| {role} | {} | {} |\n", number(ms), text(&format!("rss_mib.{role}"))));
    }
    table.push_str(&format!(
        "\nMachine: {} cores, {}, {}; its CPU was busy to {} % in (a), with the benchmark and its stack to {} %.{}\n",
        text("machine.cores"),
        text("machine.cpu"),
        text("machine.memory"),
        text("machine.busy_percent"),
        text("machine.ours_percent"),
        if get("machine.quick") == Some(&Value::Bool(true)) { " A quick run." } else { "" },
    ));
    table
}

/// CPU of one 202, by process.
fn costs(cpu_ms: &Value) -> String {
    let costs = ["api", "redis", "rabbitmq", "customers"].map(|role| format!("{role} {}", number(&cpu_ms[role])));
    format!("CPU ms each: {}", costs.join(", "))
}

fn within(found: Option<&Value>, most: f64, words: &str) -> String {
    match found.and_then(Value::as_f64) {
        Some(found) => format!("{words}: **{}**", if found <= most { "yes" } else { "no" }),
        None => String::new(),
    }
}

/// A number as people write it, a text as it is, a dash for what was not measured.
fn number(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole >= 1_000.0 => {
                let digits = format!("{whole:.0}");
                let groups: Vec<&str> = digits
                    .as_bytes()
                    .rchunks(3)
                    .rev()
                    .map(|group| std::str::from_utf8(group).unwrap_or_default())
                    .collect();
                groups.join(" ")
            }
            Some(whole) if whole.fract() == 0.0 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

const BEGIN: &str = "<!-- begin: written by ./dev bench --write-docs -->";
const END: &str = "<!-- end -->";

/// Puts the table between its marks in `docs/benchmarks.md`.
pub(crate) fn write_docs(report: &Map<String, Value>) {
    let file = checkout("docs/benchmarks.md");
    let text = fs::read_to_string(&file).expect("docs/benchmarks.md");
    let (before, rest) = text.split_once(BEGIN).expect("the first mark");
    let (_, after) = rest.split_once(END).expect("the second mark");
    fs::write(&file, format!("{before}{BEGIN}\n{}\n{END}{after}", table(report))).expect("docs/ can be written");
    crate::say("docs/benchmarks.md has the table");
}
