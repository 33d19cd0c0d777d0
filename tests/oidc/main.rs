//! Tokens of a real OpenID provider, npm's certified oidc-provider: found by its metadata, with every algorithm that is
//! accepted, as access and as ID tokens, before and after its keys change.
//!
//! Run by `./dev test oidc`, which has the provider.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
// Shared with the other test programs, which use more of it.
#![allow(dead_code)]

#[path = "../it/stack.rs"]
mod stack;

use std::process::{Child, Command};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use stack::{Answer, Choice, Stack, checkout, free_port, until};

const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "EdDSA", "Ed25519"];

/// A running provider, which ends with the test.
struct Provider {
    process: Child,
    url: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Provider {
    /// With keys that no other start has.
    async fn start(stack: &Stack, port: u16) -> Self {
        let directory = std::env::var("OIDC_PROVIDER").expect("run it by ./dev test oidc");
        let log = std::fs::File::create(stack.artifact("oidc-provider.log")).expect("a log");
        let process = Command::new("node")
            .arg(checkout("tests/oidc/provider.mjs"))
            .args([&directory, &port.to_string()])
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("node starts");
        let provider = Self { process, url: format!("http://127.0.0.1:{port}") };
        until("the provider is ready", async || {
            let metadata = format!("{}/.well-known/openid-configuration", provider.url);
            Answer::try_of(stack.http.get(metadata)).await.ok().filter(|answer| answer.status.is_success())
        })
        .await;
        provider
    }

    /// An access token for this audience, of a client that acts for itself.
    async fn access_token(&self, stack: &Stack, audience: &str, algorithm: &str) -> String {
        let body = format!(
            "grant_type=client_credentials&client_id=studio-{algorithm}&client_secret=of+the+clients+of+this+test+alone\
             &scope=book&resource=urn:{audience}:{algorithm}"
        );
        let request = stack.http.post(format!("{}/token", self.url));
        let answer = Answer::of(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)).await;
        answer.body["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
    }

    /// What a person's login ends with.
    async fn id_token(&self, stack: &Stack, algorithm: &str) -> String {
        let address = format!("{}/test/id-token?algorithm={algorithm}", self.url);
        let answer = stack.http.get(address).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a text"));
        assert!(status.is_success(), "{algorithm}: {text}");
        text
    }
}

async fn me(stack: &Stack, token: &str) -> Answer {
    Answer::of(stack.request(Method::GET, "/v1/me").bearer_auth(token)).await
}

#[track_caller]
fn assert_is(answer: &Answer, user: &str, role: &str) {
    assert_eq!((&answer.body["user"], &answer.body["role"]), (&json!(user), &json!(role)), "{}", answer.body);
}

/// F12: Tokens of a certified provider are accepted, by its metadata alone, and so are those of its next keys.
#[tokio::test]
async fn f12_a_certified_provider_signs_people_in() {
    let port = free_port().await;
    let audiences = ALGORITHMS.map(|algorithm| format!("studio-{algorithm}")).join(", ");
    let settings = vec![
        ("HOLDFAST_AUTH__ISSUER", format!("http://127.0.0.1:{port}")),
        ("HOLDFAST_AUTH__AUDIENCE", format!("holdfast, {audiences}")),
        ("HOLDFAST_AUTH__ROLE_CLAIM", "groups".to_owned()),
        ("HOLDFAST_AUTH__ROLES__VIEWER", "studio-staff".to_owned()),
        ("HOLDFAST_AUTH__ROLES__OPERATOR", "studio-owners".to_owned()),
    ];
    let stack = Stack::start_with("oidc", Choice { settings, roles: vec!["api"], ..Choice::default() }).await;
    let mut former: Option<String> = None;
    for _ in 0..2 {
        // The second start has other keys.
        let provider = Provider::start(&stack, port).await;
        let first = provider.access_token(&stack, "holdfast", ALGORITHMS[0]).await;
        until("its keys are known", async || (me(&stack, &first).await.status == 200).then_some(())).await;
        for algorithm in ALGORITHMS {
            let access = provider.access_token(&stack, "holdfast", algorithm).await;
            assert_is(&me(&stack, &access).await, &format!("studio-{algorithm}"), "operator");
            assert_is(&me(&stack, &provider.id_token(&stack, algorithm).await).await, "ann", "viewer");
            let elsewhere = me(&stack, &provider.access_token(&stack, "another", algorithm).await).await;
            assert_eq!(elsewhere.status, 401);
            assert!(elsewhere.body["detail"].as_str().is_some_and(|words| words.contains("aud")), "{}", elsewhere.body);
        }
        let cases = stack.request(Method::GET, "/v1/ops/cases").bearer_auth(&first);
        assert_eq!(Answer::of(cases).await.status, 200);
        if let Some(former) = former.replace(first) {
            assert_eq!(me(&stack, &former).await.status, 401, "a key that is no longer published signs nobody in");
        }
    }
    let minted: Value = json!(stack.holdfast_ok(&["token", "--user", "oscar", "--role", "operator"]).await.trim());
    assert_is(&me(&stack, minted.as_str().unwrap()).await, "oscar", "operator");
}
