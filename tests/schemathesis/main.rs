//! The API driven by schemathesis from our own OpenAPI document: what the document promises, the API keeps, whoever asks
//! and whatever they send.
//!
//! Run by `./dev test schemathesis`, which has the tool. A whole stack works underneath, with something of each kind in
//! its books. What came out is left in `target/schemathesis.json`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
// Shared with the other test programs, which use more of it.
#![allow(dead_code)]

#[path = "../it/forgery.rs"]
mod forgery;
#[path = "../it/stack.rs"]
mod stack;

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use forgery::{Forger, paid};
use stack::{Answer, Choice, Stack, checkout, until};

const ROLES: [&str; 3] = ["customer", "viewer", "operator"];

#[tokio::test]
async fn s6_2_every_operation_keeps_what_the_openapi_document_promises() {
    let tool = std::env::var("SCHEMATHESIS").expect("run it by ./dev test schemathesis");
    // Nobody is to be too fast, and nothing is to wait for its second person.
    let settings = vec![
        ("HOLDFAST_API__ORDERS_PER_SECOND", "1000000".to_owned()),
        ("HOLDFAST_API__ORDERS_BURST", "1000000".to_owned()),
        ("HOLDFAST_LOG__FILTER", "warn".to_owned()),
    ];
    let stack = Stack::start_with("schemathesis", Choice { settings, ..Choice::default() }).await;
    something_of_each_kind(&stack).await;
    let reports = join_all(ROLES.map(|role| drive(&stack, &tool, role))).await;
    let failures: Vec<Value> = ROLES.iter().zip(&reports).flat_map(|(role, report)| failures(role, report)).collect();
    let sum = |pointer: &str| reports.iter().filter_map(|report| report.pointer(pointer)?.as_u64()).sum::<u64>();
    let summary = json!({
        "version": reports[0]["schemathesis_version"],
        "operations": reports[0]["operations"]["tested"],
        "cases": sum("/test_cases/generated"),
        "failures": failures,
        "roles": ROLES,
        "seed": reports[0]["seed"],
    });
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory below target");
    fs::write(target.join("schemathesis.json"), summary.to_string()).expect("a report");
    println!("{} operations, {} cases, {} failures", summary["operations"], summary["cases"], failures.len());
    for (role, report) in ROLES.iter().zip(&reports) {
        assert_eq!(report["complete"], true, "{role}: {}", report["stop_reason"]);
        let of = |count: &str| report["operations"][count].as_u64();
        assert!(of("tested") == of("total") && of("total") > Some(40), "{role}: {}", report["operations"]);
    }
    assert!(failures.is_empty(), "{failures:#?}\n{}", stack.artifact("schemathesis-….log").display());
    // Whatever was sent, the books are right and nobody has panicked.
    stack.check_invariants().await;
    stack.holdfast_ok(&["verify"]).await;
}

/// Sessions, orders of ann's in several states, a case and a dead letter, so that links lead somewhere.
async fn something_of_each_kind(stack: &Stack) {
    let schedule = stack.add_schedule(500).await;
    let ann = stack.quick_token("ann");
    let confirmed = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &confirmed, "awaiting_payment").await;
    assert_eq!(stack.pay(&confirmed).await.status, StatusCode::OK);
    stack.until_status(&ann, &confirmed, "confirmed").await;
    let stranger = Forger::of(stack).callback(&paid(stack, "hf0000000000", "4200000000001"));
    assert_eq!(Answer::of(stranger.to(stack, "payments")).await.status, StatusCode::NO_CONTENT);
    stack.script(&json!({ "rules": [{ "on": "order", "status": 400, "code": "PARAM_ERROR", "count": 1 }] })).await;
    let refused = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &refused, "held").await;
    let operator = stack.holdfast_ok(&["token", "--user", "oscar", "--role", "operator"]).await;
    until("a case and a dead letter are there", async || {
        let mut there = true;
        for path in ["/v1/ops/cases", "/v1/ops/dead-letters"] {
            let list = Answer::of(stack.request(Method::GET, path).bearer_auth(operator.trim())).await;
            there &= list.body["items"].as_array().is_some_and(|items| !items.is_empty());
        }
        there.then_some(())
    })
    .await;
    stack.script(&json!({})).await;
}

/// One run of the tool with a token of this role; its report.
async fn drive(stack: &Stack, tool: &str, role: &str) -> Value {
    let user = if role == "customer" { "ann" } else { role };
    let token = stack.holdfast_ok(&["token", "--user", user, "--role", role]).await;
    let report: PathBuf = stack.artifact(&format!("schemathesis-{role}.json"));
    let log = stack.artifact(&format!("schemathesis-{role}.log"));
    let output = fs::File::create(&log).expect("a log");
    let mut command = tokio::process::Command::new(tool);
    command
        .arg("--config-file")
        .arg(checkout("tests/schemathesis/schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/openapi.json", stack.api))
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", checkout("tests/schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(stack.artifact("."))
        .stdout(output.try_clone().expect("a log"))
        .stderr(output);
    command.status().await.expect("the tool starts");
    let text = fs::read_to_string(&report);
    let text = text.unwrap_or_else(|_| panic!("no report: {}", fs::read_to_string(&log).unwrap_or_default()));
    serde_json::from_str(&text).expect("a JSON report")
}

/// What went wrong: failed checks, and whatever kept the tool from its work.
fn failures(role: &str, report: &Value) -> Vec<Value> {
    let all = ["failures", "errors"].into_iter().flat_map(|kind| report[kind].as_array().into_iter().flatten());
    all.map(|failure| {
        let told = |member: &str| failure[member].clone();
        json!({ "role": role, "what": told("title"), "code": told("code"), "operations": told("operations") })
    })
    .collect()
}
