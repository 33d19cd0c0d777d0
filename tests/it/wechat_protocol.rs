//! WeChat's protocol by the letter, at the border of a whole stack: large callbacks, headers before bodies, the test
//! callback, a merchant without platform certificates, long titles.

use reqwest::StatusCode;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    forgery::{Forger, SERIAL, SIGNATURE, TIMESTAMP, paid},
    metrics::Counts,
    stack::{Answer, Choice, Stack, until},
};

async fn api_alone(test: &str, settings: Vec<(&'static str, String)>) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api"], settings, ..Choice::default() }).await
}

/// Sends a callback's head that announces `length` bytes, and no body; reads the first line that comes back.
async fn head_alone(stack: &Stack, headers: &[(&'static str, String)], length: usize) -> String {
    let mut wire = TcpStream::connect(stack.api.strip_prefix("http://").expect("an address")).await.expect("a wire");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST /v1/wechat/notify/payments HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {length}\r\n\r\n");
    wire.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') {
        assert_ne!(wire.read_buf(&mut answer).await.expect("read"), 0, "an answer");
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// G3: a ciphertext of up to 1 MiB is taken; a sender whose headers prove nothing is refused before its body is read.
#[tokio::test]
async fn a_large_callback_is_taken_and_a_strangers_body_is_not_awaited() {
    let stack = api_alone("protocol-large", Vec::new()).await;
    let forger = Forger::of(&stack);
    let mut content = paid(&stack, "hf00000001", "4200000001");
    content["promotion_detail"] = json!([{"coupon_id": "1", "name": "x".repeat(750 * 1024)}]);
    let letter = forger.callback(&content);
    assert!(letter.body.len() > 1000 * 1024 && letter.body.len() <= 1024 * 1024 + 512, "{}", letter.body.len());
    let answer = Answer::of(letter.to(&stack, "payments")).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    assert_eq!(stack.ready_in("payments").await, 1);

    let now = OffsetDateTime::now_utc();
    let good = forger.callback(&paid(&stack, "hf00000002", "4200000002"));
    let far = (now - Duration::minutes(6)).unix_timestamp().to_string();
    for (name, letter) in [
        ("no signature", good.clone().without(SIGNATURE)),
        ("no serial", good.clone().without(SERIAL)),
        ("a replay", good.clone().with(TIMESTAMP, &far)),
        ("an unknown key", good.clone().with(SERIAL, "PUB_KEY_ID_0100000000000000000000000000000001")),
        ("a probe", good.clone().with(SIGNATURE, &format!("WECHATPAY/SIGNTEST/{}", good.header(SIGNATURE)))),
    ] {
        let line = head_alone(&stack, &letter.headers, 1024 * 1024).await;
        assert!(line.starts_with("HTTP/1.1 401 "), "{name}: {line}");
    }
    // With right headers the body is waited for, but not for long.
    let line = head_alone(&stack, &good.headers, good.body.len()).await;
    assert!(line.starts_with("HTTP/1.1 408 "), "{line}");
    let counts = Counts::of_api(&stack).await;
    assert_eq!(counts.sum("wechat_callbacks_total", &[("outcome", "refused")]), 6);
    assert_eq!(counts.sum("wechat_callbacks_total", &[("reason", "request-timeout")]), 1);
}

/// G5: the test callback proves the APIv3 key: 204 and a note when it opens, refused and counted when it does not.
#[tokio::test]
async fn a_test_callback_is_opened() {
    let stack = api_alone("protocol-echo", Vec::new()).await;
    let forger = Forger::of(&stack);
    let now = OffsetDateTime::now_utc();
    let echo = |key: &str| forger.sign(forger.envelope("SECURITY_ECHO.SUCCESS", "{\"echo_message\":\"x\"}", key), now);
    for kind in ["payments", "refunds"] {
        let right = Answer::of(echo(&forger.apiv3_key).to(&stack, kind)).await;
        assert_eq!(right.status, StatusCode::NO_CONTENT, "{}", right.body);
        let wrong = Answer::of(echo(&"k".repeat(32)).to(&stack, kind)).await;
        assert_eq!((wrong.status, &wrong.body["code"]), (StatusCode::BAD_REQUEST, &json!("FAIL")), "{}", wrong.body);
    }
    let counts = Counts::of_api(&stack).await;
    let counted = |outcome, reason| counts.sum("wechat_callbacks_total", &[("outcome", outcome), ("reason", reason)]);
    assert_eq!((counted("ignored", "echo"), counted("refused", "decryption")), (2, 2));
    let log = std::fs::read_to_string(stack.log("api")).expect("a log");
    assert_eq!(log.matches("received WeChat's test callback").count(), 2);
    assert_eq!(stack.ready_in("payments").await + stack.ready_in("refunds").await, 0);
}

/// G4: a merchant who has only a public key is told of it once, and WeChat is not asked again for a strange serial.
#[tokio::test]
async fn a_merchant_without_platform_certificates_is_told_once() {
    let roles = Vec::new();
    let settings = vec![("HOLDFAST_WECHAT_PAY__PLATFORM_CERTIFICATES", "true".to_owned())];
    let mut stack = Stack::start_with("protocol-keys", Choice { roles, settings, ..Choice::default() }).await;
    stack.script(&json!({"rules": [{"on": "certificates", "status": 403, "code": "NO_AUTH"}]})).await;
    stack.spawn("api");
    stack.until_ready().await;
    let asked = async || {
        let script = Answer::of(stack.http.get(format!("{}/_sim/script", stack.simulator.url))).await;
        script.body["struck"][0].as_u64().expect("a count")
    };
    until("the certificates are asked for", async || (asked().await == 1).then_some(())).await;
    let told = async || {
        let log = std::fs::read_to_string(stack.log("api")).ok()?;
        log.contains("merchant has no platform certificates").then_some(log)
    };
    until("the log tells it", told).await;

    let forger = Forger::of(&stack);
    for serial in ["1A", "1B", "1C"] {
        let letter = forger.callback(&paid(&stack, "hf00000001", "4200000001")).with(SERIAL, serial);
        assert_eq!(Answer::of(letter.to(&stack, "payments")).await.status, StatusCode::UNAUTHORIZED);
    }
    let right = forger.callback(&paid(&stack, "hf00000001", "4200000001"));
    assert_eq!(Answer::of(right.to(&stack, "payments")).await.status, StatusCode::NO_CONTENT, "the public key serves");
    assert_eq!(asked().await, 1);
    let log = told().await.expect("the log");
    let about: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line.to_string().contains("certificates"))
        .collect();
    assert_eq!(about.iter().filter(|line| line["level"] == "WARN").count(), 0, "{about:#?}");
    assert_eq!(log.matches("merchant has no platform certificates").count(), 1);
}

/// G3: a customer sees the whole title of a session before paying, up to 127 characters.
#[tokio::test]
async fn a_long_title_reaches_wechat_whole() {
    let stack =
        Stack::start_with("protocol-title", Choice { roles: vec!["api", "seats", "prepay"], ..Choice::default() })
            .await;
    let schedule = stack.add_schedule(1).await;
    let title = "零基础拉坯与修坯体验课".repeat(9);
    sqlx::query("UPDATE courses SET title = $1").bind(&title).execute(&stack.db).await.expect("a title");
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    let ledger = stack.ledger().await;
    let seen = ledger["orders"][0]["description"].as_str().expect("a description");
    assert!(seen.starts_with(&title) && seen.chars().count() <= 127, "{seen}");
    stack.check_invariants().await;
}
