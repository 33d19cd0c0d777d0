//! Floods: bad signatures by the thousand, connections that say nothing or say it slowly, and customers who are
//! served all the same. `./dev test flood` runs it with ten thousand of each.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::json;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    forgery::{Forger, Letter, SIGNATURE, paid},
    metrics::Counts,
    stack::{Answer, Choice, PRICE_FEN, Stack},
};

/// How many; fewer in the ordinary run.
fn size(ordinary: usize) -> usize {
    std::env::var("FLOOD").ok().map_or(ordinary, |size| size.parse().expect("FLOOD is a number"))
}

#[tokio::test]
async fn s4_1_good_callbacks_pass_while_bad_signatures_flood() {
    let stack = Stack::start_with("flood-webhook", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let forger = Forger::of(&stack);
    let (bad, good) = (size(2_000), 50);
    let signed = |n: usize| forger.callback(&paid(&stack, &format!("hf{n:08}"), &format!("42{n:08}")));
    let foreign = forger.sign("another body".into(), OffsetDateTime::now_utc()).header(SIGNATURE).to_owned();
    // Right in everything but the signature, so that each costs a verification.
    let wrong: Vec<Letter> = (0..20).map(|n| signed(n).with(SIGNATURE, &foreign)).collect();
    let right: Vec<Letter> = (0..good).map(signed).collect();
    let send = async |letter: &Letter| Answer::of(letter.to(&stack, "payments")).await.status;

    let began = Instant::now();
    let flood = stream::iter(0..bad).map(|n| send(&wrong[n % wrong.len()])).buffer_unordered(64).collect::<Vec<_>>();
    let through = async {
        let mut slowest = Duration::ZERO;
        for letter in &right {
            let asked = Instant::now();
            assert_eq!(send(letter).await, StatusCode::NO_CONTENT);
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (refused, slowest) = tokio::join!(flood, through);
    let took = began.elapsed();
    println!(
        "{bad} bad signatures refused in {took:?} ({} a second), {good} good callbacks taken meanwhile, the slowest in \
         {slowest:?}",
        bad as u128 * 1_000 / took.as_millis().max(1)
    );
    assert!(refused.iter().all(|status| *status == StatusCode::UNAUTHORIZED));
    // WeChat hangs up after five seconds.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(stack.ready_in("payments").await, good as u32, "every good one, and nothing else");
    let counts = Counts::of_api(&stack).await;
    let counted = |outcome, reason| counts.sum("wechat_callbacks_total", &[("outcome", outcome), ("reason", reason)]);
    assert_eq!((counted("published", ""), counted("refused", "mismatch")), (good as u64, bad as u64));
    stack.check_invariants().await;
}

/// Connections that begin with these bytes and say no more.
async fn hold(stack: &Stack, count: usize, beginning: &[u8]) -> Vec<TcpStream> {
    let address = stack.api.strip_prefix("http://").expect("an address");
    stream::iter(0..count)
        .map(|_| async move {
            let mut one = TcpStream::connect(address).await.expect("a connection");
            one.write_all(beginning).await.expect("it takes some bytes");
            one
        })
        .buffer_unordered(64)
        .collect()
        .await
}

/// Customers who place orders, one after the other; answers how long the slowest waited.
async fn customers(stack: &Stack, schedule: &str, count: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for customer in 0..count {
        let token = stack.quick_token(&format!("customer-{customer}"));
        let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
        let asked = Instant::now();
        let answer = Answer::of(stack.submit_request(&token, "flood", &body)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        slowest = slowest.max(asked.elapsed());
    }
    slowest
}

/// Reads to the end that the other side makes.
async fn until_hung_up(mut one: TcpStream) -> String {
    let mut said = Vec::new();
    let limit = Duration::from_secs(60);
    // Hung up on while bytes were on their way: a reset, and an end all the same.
    let _ = timeout(limit, one.read_to_end(&mut said)).await.expect("it is hung up on");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn s6_4_slow_and_silent_connections_are_hung_up_on_while_customers_are_served() {
    let settings = vec![
        ("HOLDFAST_API__HEAD_TIMEOUT_SECONDS", "2".to_owned()),
        ("HOLDFAST_API__REQUEST_TIMEOUT_SECONDS", "11".to_owned()),
    ];
    let stack = Stack::start_with("flood-slow", Choice { roles: vec!["api"], settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(5).await;
    // Headers that pass, since a body is read only after them.
    let signed = Forger::of(&stack).sign("{}".into(), OffsetDateTime::now_utc()).headers;
    let headers: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let callback =
        format!("POST /v1/wechat/notify/payments HTTP/1.1\r\nhost: h\r\n{headers}content-length: 900\r\n\r\n{{\"id\":");
    let slow_bodies = hold(&stack, 20, callback.as_bytes()).await;
    let mut cut = Vec::new();
    for beginning in [
        &b""[..],
        b"GET /v1/sch",
        b"GET /v1/schedules HTTP/1.1\r\nhost: h\r\nx-slow: ",
        // Half of what opens HTTP/2.
        b"PRI * HTTP/2.0\r\n",
        // All of it, and no request after it.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        cut.extend(hold(&stack, 60, beginning).await);
    }
    let slowest = customers(&stack, &schedule, 30).await;
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    for one in cut {
        until_hung_up(one).await;
    }
    for one in slow_bodies {
        let said = until_hung_up(one).await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    }
    // Silence after an answer ends as well.
    let kept = hold(&stack, 5, b"HEAD /docs HTTP/1.1\r\nhost: h\r\n\r\n").await;
    for one in kept {
        let said = until_hung_up(one).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s6_4_idle_connections_are_held_in_bounded_memory_while_customers_are_served() {
    // Each takes a file on both sides of the wire.
    let held = size(500);
    let settings = vec![("HOLDFAST_API__HEAD_TIMEOUT_SECONDS", "600".to_owned())];
    let stack = Stack::start_with("flood-idle", Choice { roles: vec!["api"], settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(5).await;
    let before = resident_kib(&stack);
    let mut idle = hold(&stack, held, b"HEAD /docs HTTP/1.1\r\nhost: h\r\n\r\n").await;
    for one in &mut idle {
        let answered = timeout(Duration::from_secs(60), one.read(&mut [0; 512])).await;
        assert!(answered.expect("in time").expect("an answer") > 0);
    }
    let slowest = customers(&stack, &schedule, 50).await;
    let grown = resident_kib(&stack).saturating_sub(before) / held as u64;
    println!(
        "{held} idle connections held: {grown} KiB each; fifty customers served meanwhile, the slowest in {slowest:?}"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(grown < 64, "{grown} KiB for a connection that does nothing");
    drop(idle);
    stack.check_invariants().await;
}

fn resident_kib(stack: &Stack) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid("api"))).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
