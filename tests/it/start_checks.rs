//! A process proves at its start that its accounts may do what it needs, and refuses by name what is lacking.

use std::{process::Stdio, time::Duration};

use clap::ValueEnum as _;
use holdfast::process::{WorkerName, role::Role};
use tokio::time::timeout;

use crate::{
    queues::Queues,
    stack::{Choice, Stack, checkout, until},
};

async fn nothing_running(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: Vec::new(), ..Choice::default() }).await
}

/// Runs a role under its own accounts; it must end by itself. Answers its exit code and what it wrote.
async fn ended(stack: &Stack, role: &str, more: &[(&str, String)]) -> (Option<i32>, String) {
    let arguments: &[&str] = if role == "api" { &["api"] } else { &["worker", role] };
    let mut command = tokio::process::Command::from(stack.command(arguments));
    command.envs(stack.accounts(role)).envs(more.iter().cloned());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(Duration::from_secs(60), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{role} runs although it lacks a right")).expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn refused(stack: &Stack, role: &str, more: &[(&str, String)], words: &str) {
    let (code, told) = ended(stack, role, more).await;
    assert_eq!(code, Some(2), "{role}: {told}");
    assert!(told.contains(words), "{role} does not say \"{words}\": {told}");
}

/// D7: a role says which right of its own it lacks at the broker, whatever the release of the broker.
#[tokio::test]
async fn s6_4_a_right_that_a_role_lacks_at_the_broker_is_said_by_name() {
    let stack = nothing_running("start-broker").await;
    let (nothing, default, work) = ("^$", "^amq\\.default$", "^(amq\\.default|delay\\..+)$");
    for (role, user, write, read, words) in [
        (
            "seats",
            "holdfast_seats",
            work,
            nothing,
            "seats: the account holdfast_seats lacks the right \"read\" on queue orders.",
        ),
        (
            "prepay",
            "holdfast_prepay",
            nothing,
            "^prepay$",
            "prepay: the account holdfast_prepay lacks the right \"write\" on exchange amq.default",
        ),
        (
            "expiry",
            "holdfast_expiry",
            default,
            "^expiry$",
            "expiry: the account holdfast_expiry lacks the right \"write\" on exchange delay.",
        ),
        (
            "api",
            "holdfast_api",
            default,
            nothing,
            "api: the account holdfast_api lacks the right \"read\" on queue orders.dead",
        ),
        ("reconcile", "holdfast_reconcile", ".*", ".*", "reconcile: exchange delay.1s may not be declared"),
    ] {
        stack.permit(user, nothing, write, read).await;
        refused(&stack, role, &[], words).await;
    }
}

/// D7: what another role uses keeps no role from its work, and its own account is enough to start.
#[tokio::test]
async fn s6_4_a_role_starts_under_its_own_account_whatever_others_lack() {
    let mut stack = Stack::start_with("start-others", Choice { roles: vec!["api"], ..Choice::default() }).await;
    Queues::of(&stack).await.delete("refunds").await;
    stack.spawn("prepay");
    let health = crate::metrics::health_of(&stack, "prepay").await;
    until("prepay is ready", async || {
        let ready = stack.http.get(format!("http://{health}/readyz")).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
    assert!(stack.is_running("prepay"));
}

/// D7: whatever the account, `topology check` answers what it can and names what it cannot.
#[tokio::test]
async fn s6_4_a_topology_check_under_a_roles_account_says_what_it_could_see() {
    let stack = nothing_running("start-check").await;
    for role in Role::all() {
        let mut command = stack.command(&["topology", "check", "--json"]);
        command.envs(stack.accounts(role.name()));
        let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("waited");
        assert_eq!(output.status.code(), Some(0), "{role:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(report["items"], serde_json::json!([]), "{role:?}");
        assert_eq!(report["compared"], role.uses().declares, "{role:?}");
        // RabbitMQ before 4.2.6 lets every account look.
        let unseen: Vec<&str> =
            report["unseen"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
        let uses = role.uses();
        for own in uses.consumes.iter().chain(&uses.reads).map(String::as_str).chain(uses.waits_in.iter().copied()) {
            assert!(!unseen.contains(&own), "{role:?} may not look at {own}, which it uses");
        }
    }
}

/// A1: a role says which right it lacks in the database, before it takes anything.
#[tokio::test]
async fn s6_4_a_right_that_a_role_lacks_in_the_database_is_said_by_name() {
    let stack = nothing_running("start-database").await;
    // The fault itself: operators' acts under the account that only reads.
    let ingress = stack.accounts("api").into_iter().find(|(setting, _)| *setting == "DATABASE_URL").expect("one").1;
    let words = "api: the account holdfast_ingress lacks the right INSERT on course_schedules at PostgreSQL (database.operators_url)";
    refused(&stack, "api", &[("HOLDFAST_DATABASE__OPERATORS_URL", ingress)], words).await;
    for (role, revoke, words) in [
        (
            "api",
            "REVOKE INSERT ON dead_letter_acts FROM holdfast_desk",
            "api: the account holdfast_desk lacks the right INSERT on dead_letter_acts",
        ),
        (
            "api",
            "REVOKE SELECT ON payment_orders FROM holdfast_ingress",
            "api: the account holdfast_ingress lacks the right SELECT on payment_orders",
        ),
        (
            "notifications",
            "REVOKE UPDATE ON notifications FROM holdfast_notifications",
            "notifications: the account holdfast_notifications lacks the right UPDATE on notifications",
        ),
        (
            "reconcile",
            "REVOKE UPDATE (swept_at) ON refunds FROM holdfast_reconcile",
            "lacks the right UPDATE (swept_at) on refunds",
        ),
        (
            "reconcile",
            "REVOKE EXECUTE ON FUNCTION audit_log_make_partitions(integer) FROM holdfast_reconcile",
            "lacks the right EXECUTE on audit_log_make_partitions(integer)",
        ),
    ] {
        sqlx::raw_sql(revoke).execute(&stack.db).await.expect("revoked");
        refused(&stack, role, &[], words).await;
    }
    // What the owner gives again is enough.
    stack.holdfast_ok(&["migrate"]).await;
    for role in Role::all() {
        for account in role.accounts().iter().filter(|account| account.server == "DATABASE_URL") {
            let url = secrecy::SecretString::from(account.address(&stack.environment["DATABASE_URL"]));
            let database = holdfast::store::Database::open(&url, 1, holdfast::store::Plans::Chosen).expect("a pool");
            let missing = holdfast::store::rights::missing(&database, account.kind).await.expect("PostgreSQL");
            assert_eq!(missing, [], "{role:?}");
        }
    }
}

/// A1: a right that is taken away from a running process is told as such, and not as a mistake of the caller or of ours.
#[tokio::test]
async fn s6_4_a_right_that_is_lost_later_is_an_outage_with_its_own_words() {
    let stack = Stack::start_with("start-lost", Choice { roles: vec!["api"], ..Choice::default() }).await;
    sqlx::raw_sql("REVOKE INSERT ON course_schedules FROM holdfast_desk").execute(&stack.db).await.expect("revoked");
    let operator = stack.token_of_role("olga", holdfast::api::Role::Operator);
    let add = stack.request(reqwest::Method::POST, "/v1/ops/schedules").bearer_auth(operator);
    let answer =
        crate::stack::Answer::of(add.json(&serde_json::json!({ "capacity": 3, "course_id": "pottery" }))).await;
    assert_eq!(answer.problem(), "temporarily-unavailable", "{}", answer.body);
    let log = std::fs::read_to_string(stack.log("api")).expect("a log");
    let told = log.lines().find(|line| line.contains("permission denied")).expect("the log tells");
    assert!(told.contains("lacks a right") && told.contains(r#""level":"ERROR""#), "{told}");
}

/// A1: `./dev up` starts every worker there is.
#[test]
fn the_dev_stack_lists_every_worker() {
    let script = std::fs::read_to_string(checkout("scripts/dev/roles.sh")).expect("the script");
    let line = script.lines().find_map(|line| line.strip_prefix("workers='")).expect("the list");
    let listed: Vec<&str> = line.trim_end_matches('\'').split(' ').collect();
    let workers: Vec<&str> = WorkerName::value_variants().iter().map(|worker| worker.name()).collect();
    assert_eq!(listed, workers);
}
