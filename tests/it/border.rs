//! The border, attacked at the real process: what is told on which port, whom limits count, what must not start, and what
//! proxies need.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::json;

use crate::stack::{Answer, Choice, Stack, until};

async fn api_alone(test: &str, settings: Vec<(&'static str, String)>) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api"], settings, ..Choice::default() }).await
}

/// F9: health and metrics are told on a port of their own, and not on the customers'.
#[tokio::test]
async fn customers_are_not_told_of_health_and_metrics() {
    let stack = api_alone("border-health", Vec::new()).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = Answer::of(stack.request(Method::GET, path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let told = stack.health(path).await.expect("an answer");
        assert_eq!(told.status, StatusCode::OK, "{path}");
    }
    assert_eq!(stack.health("/v1/schedules").await.expect("an answer").status, StatusCode::NOT_FOUND);

    // A port that is taken is named, and nothing starts.
    let taken = stack.api.trim_start_matches("http://").to_owned();
    let mut command = stack.command(&["api"]);
    command.env("HOLDFAST_HEALTH__LISTEN", &taken).env("HOLDFAST_API__LISTEN", "127.0.0.1:0");
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("waited");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && words.contains("health.listen"), "{words}");
}

/// F11: a token for everybody goes with a simulator on this machine, and with nothing else.
#[tokio::test]
async fn development_does_not_start_with_real_money_or_strangers() {
    let mut stack = Stack::start_with("border-development", Choice { roles: Vec::new(), ..Choice::default() }).await;
    stack.environment.remove("HOLDFAST_BROKER__CONFIRM_MS");
    let public = "https://book.example.com/v1/wechat/notify/payments";
    for (name, settings) in [
        (
            "WeChat Pay itself",
            vec![
                ("HOLDFAST_WECHAT_PAY__BASE_URL", "https://api.mch.weixin.qq.com"),
                ("HOLDFAST_WECHAT_PAY__NOTIFY_URL", public),
                ("HOLDFAST_WECHAT_PAY__REFUND_NOTIFY_URL", "https://book.example.com/v1/wechat/notify/refunds"),
            ],
        ),
        ("the Official Account itself", vec![("HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL", "https://api.weixin.qq.com")]),
        ("a public address", vec![("HOLDFAST_API__PUBLIC_URL", "https://book.example.com")]),
        ("every interface", vec![("HOLDFAST_API__LISTEN", "0.0.0.0:0")]),
        ("every interface of IPv6", vec![("HOLDFAST_API__LISTEN", "[::]:0")]),
        (
            "a public interface",
            vec![("HOLDFAST_API__LISTEN", "203.0.113.9:8080"), ("HOLDFAST_API__PUBLIC_URL", "http://127.0.0.1:8080")],
        ),
    ] {
        for arguments in [&["api"][..], &["config", "check"]] {
            let mut command = stack.command(arguments);
            command.envs(settings.iter().copied());
            let output = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
            let output = output.await.expect("waited");
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{name}, {arguments:?}: {words}");
            assert!(words.contains("api.development must be false"), "{name}, {arguments:?}: {words}");
        }
    }
    // As the containers do: every interface of theirs, reached at this machine's address.
    let mut command = stack.command(&["config", "check"]);
    command.env("HOLDFAST_API__LISTEN", "0.0.0.0:8080").env("HOLDFAST_API__PUBLIC_URL", "http://127.0.0.1:8080");
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("waited");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// F13: a proxy that gathers answers would pass on nothing of a stream.
#[tokio::test]
async fn event_streams_tell_proxies_to_pass_each_event_on() {
    let stack = Stack::start_with("border-streams", Choice { roles: vec!["api", "seats"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    let viewer = stack.holdfast_ok(&["token", "--user", "vic", "--role", "viewer"]).await;
    for (path, token) in
        [(format!("/v1/orders/{order}/events"), ann.as_str()), ("/v1/ops/events".to_owned(), viewer.trim())]
    {
        let stream = stack.request(Method::GET, &path).bearer_auth(token).send().await.expect("a stream");
        assert_eq!(stream.status(), StatusCode::OK, "{path}");
        let says = |headers: &HeaderMap, name: &str| headers[name].to_str().expect("text").to_owned();
        assert_eq!(says(stream.headers(), "x-accel-buffering"), "no", "{path}");
        assert_eq!(says(stream.headers(), "cache-control"), "no-store, no-transform", "{path}");
        assert!(says(stream.headers(), "content-type").starts_with("text/event-stream"), "{path}");
    }
}

/// F4: networks that hold customers are no proxies', and words that cannot be read count.
#[tokio::test]
async fn whom_a_proxy_speaks_for_is_counted_or_the_proxy_is() {
    let settings = vec![
        ("HOLDFAST_API__ADDRESS_REQUESTS_PER_SECOND", "1".to_owned()),
        ("HOLDFAST_API__ADDRESS_REQUESTS_BURST", "5".to_owned()),
    ];
    let stack = api_alone("border-proxies", settings).await;
    for (name, value) in
        [("X-Forwarded-For", "unknown"), ("X-Forwarded-For", "\u{e9}"), ("Forwarded", "for=203.0.113.9")]
    {
        let mut refused = 0;
        for _ in 0..20 {
            let asked = stack.request(Method::GET, "/v1/schedules").header(name, value.as_bytes());
            refused += usize::from(Answer::of(asked).await.status == StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(refused >= 10, "{name}: {value}: {refused} of 20 refused");
    }
    let mut command = stack.command(&["config", "check", "--production"]);
    command.env("HOLDFAST_API__TRUSTED_PROXIES", "0.0.0.0/0");
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("waited");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("api.trusted_proxies must name proxies alone"), "{words}");
}

/// F2: the description of the API is written and packed once.
#[tokio::test]
async fn the_description_goes_out_as_it_was_built() {
    let stack = api_alone("border-openapi", Vec::new()).await;
    let ask = || stack.request(Method::GET, "/openapi.json");
    let plain = ask().send().await.expect("an answer");
    assert!(plain.headers().get("content-encoding").is_none());
    let tag = plain.headers()["etag"].clone();
    let length = plain.headers()["content-length"].to_str().expect("a number").to_owned();
    let bytes = plain.bytes().await.expect("a body");
    assert_eq!(length, bytes.len().to_string());
    let packed = ask().header("Accept-Encoding", "br, gzip").send().await.expect("an answer");
    assert_eq!(
        (&packed.headers()["content-encoding"], &packed.headers()["etag"]),
        (&"gzip".parse().expect("a value"), &tag)
    );
    assert!(packed.headers().contains_key("content-length"), "packed before it was asked for");
    let mut unpacked = Vec::new();
    let packed = packed.bytes().await.expect("a body");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked).expect("gzip");
    assert_eq!(unpacked, bytes);
    let known = ask().header("If-None-Match", tag).send().await.expect("an answer");
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
}

/// F15: a Redis that answers and refuses writes is told as away.
#[tokio::test]
async fn a_redis_that_refuses_writes_is_not_ok() {
    let stack = api_alone("border-redis", Vec::new()).await;
    let ready = stack.health("/readyz").await.expect("readiness");
    assert_eq!(ready.body["dependencies"]["cache"], "ok", "{}", ready.body);
    let url = stack.environment["REDIS_URL"].clone();
    let client = redis::Client::open(url.as_str()).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    // An account that may read alone: as a replica, a full server or one that cannot save.
    let reader = format!("{}-reader", stack.name);
    let mut account = redis::cmd("ACL");
    account.arg("SETUSER").arg(&reader).arg(&["on", ">reads", "~*", "&*", "+@all", "-@write"]);
    account.query_async::<()>(&mut connection).await.expect("an account");
    let (_, server) = url.rsplit_once('@').expect("an address");
    let mut stack = stack;
    stack.kill("api");
    stack.environment.insert("REDIS_URL".into(), format!("redis://{reader}:reads@{server}"));
    stack.spawn("api");
    stack.until_ready().await;
    let told = until("the cache is told as away", async || {
        let ready = stack.health("/readyz").await?;
        (ready.body["dependencies"]["cache"] == "away").then_some(ready)
    })
    .await;
    assert_eq!((told.status, &told.body["status"]), (StatusCode::OK, &json!("ready")), "never needed");
    let _ = redis::cmd("ACL").arg("DELUSER").arg(&reader).query_async::<()>(&mut connection).await;
}

/// F15: a callback address that nothing serves, and the merchant's own key as WeChat's, are told before the first order.
#[tokio::test]
async fn config_check_knows_what_cannot_work() {
    let mut stack = Stack::start_with("border-config", Choice { roles: Vec::new(), ..Choice::default() }).await;
    stack.environment.remove("HOLDFAST_BROKER__CONFIRM_MS");
    let (code, _, words) = stack.holdfast(&["config", "check"]).await;
    assert_eq!(code, 0, "{words}");
    // The public half of the key that signs our requests.
    let own = stack.artifact("own.pem");
    let private = stack.keys().join("merchant_private_key.pem");
    let made = std::process::Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(&private)
        .arg("-out")
        .arg(&own)
        .status()
        .expect("openssl runs");
    assert!(made.success());
    for (setting, value, told) in [
        ("HOLDFAST_WECHAT_PAY__NOTIFY_URL", format!("{}/pay", stack.api), "wechat_pay.notify_url must end with"),
        (
            "HOLDFAST_WECHAT_PAY__REFUND_NOTIFY_URL",
            format!("{}/v1/wechat/notify/payments", stack.api),
            "wechat_pay.refund_notify_url must end with",
        ),
        (
            "HOLDFAST_WECHAT_PAY__PUBLIC_KEY_FILE",
            own.display().to_string(),
            "wechat_pay.public_key is the merchant's own",
        ),
    ] {
        let mut command = stack.command(&["config", "check"]);
        command.env(setting, value);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("waited");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && words.contains(told), "{setting}: {words}");
    }
}
