//! Tokens of OpenID issuers: keys that are discovered, fetched, rotated and withdrawn, and every way in which such a token
//! can be wrong. The issuer is the test's own; `./dev test oidc` takes a real one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use holdfast::tokens::{AuthKeys, AuthSettings, Caller, Issuer, Refused, Role, RoleValues, Tokens, Unaccepted};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::{
    signers::{Signer, part},
    stack::{Answer, Choice, Stack, free_port, until},
};

/// An issuer that publishes whatever keys the test gives it.
struct Publisher {
    url: String,
    metadata: Arc<Mutex<Value>>,
    keys: Arc<Mutex<Value>>,
    /// How often the keys were fetched.
    fetched: Arc<AtomicU64>,
}

impl Publisher {
    async fn start(signers: &[&Signer]) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").await.expect("a port"), signers)
    }

    fn start_at(listener: TcpListener, signers: &[&Signer]) -> Self {
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let metadata = Arc::new(Mutex::new(json!({ "issuer": url, "jwks_uri": format!("{url}/keys"), "more": [1] })));
        let (keys, fetched) = (Arc::new(Mutex::new(Value::Null)), Arc::new(AtomicU64::new(0)));
        let told = metadata.clone();
        let (published, count) = (keys.clone(), fetched.clone());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(told.lock().unwrap().clone())))
            .route(
                "/keys",
                get(async move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    let keys = published.lock().unwrap().clone();
                    if keys.is_null() { StatusCode::BAD_GATEWAY.into_response() } else { Json(keys).into_response() }
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        let publisher = Self { url, metadata, keys, fetched };
        publisher.publish(signers);
        publisher
    }

    fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        *self.keys.lock().unwrap() = json!({ "keys": keys });
    }

    fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn settings(&self) -> AuthSettings {
        AuthSettings {
            issuer: Some(self.url.clone()),
            audience: vec!["holdfast", "booking"].into(),
            role_claim: "groups".into(),
            roles: RoleValues {
                viewer: Some(vec!["studio-staff"].into()),
                operator: Some(vec!["studio-owners", "studio-desk"].into()),
                ..RoleValues::default()
            },
            ..AuthSettings::default()
        }
    }

    /// What an ordinary provider puts into a token, changed.
    fn claims(&self, changes: Value) -> Value {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({
            "iss": self.url, "sub": "auth0|ann", "aud": ["account", "holdfast"], "azp": "app", "jti": "7",
            "iat": now, "nbf": now, "exp": now + 300, "groups": ["everyone", "studio-staff"], "scope": "openid",
        });
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }
}

fn tokens(settings: &AuthSettings) -> Tokens {
    let issuer = Issuer::start(settings, false).expect("usable settings");
    Tokens::new(AuthKeys::from_settings(settings).expect("usable settings"), issuer)
}

async fn check(tokens: &Tokens, token: &str) -> Result<Caller, Unaccepted> {
    tokens.check(token, OffsetDateTime::now_utc()).await
}

/// The words of a refusal, which must not hold the token.
async fn refusal(tokens: &Tokens, token: &str) -> String {
    let words = match check(tokens, token).await {
        Err(Unaccepted::Refused(refused)) => refused.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(!words.contains(token), "{words}");
    words
}

/// F12: Tokens of ordinary issuers are refused. Tokens that an OpenID provider signs with RS256, ES256 or EdDSA are accepted,
/// whatever else they claim, and their groups become roles.
#[tokio::test]
async fn f12_tokens_of_an_openid_issuer_are_accepted_and_groups_become_roles() {
    let signers = [Signer::rsa("r-1"), Signer::ec("e-1"), Signer::ed("d-1")];
    let publisher = Publisher::start(&signers.each_ref()).await;
    let tokens = tokens(&publisher.settings());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for signer in &signers {
        for (changes, role) in [
            (json!({}), Role::Viewer),
            (json!({"aud": "booking", "groups": "studio-desk"}), Role::Operator),
            (json!({"groups": ["studio-staff", "studio-owners"]}), Role::Operator),
            (json!({"groups": ["customer"]}), Role::Customer),
            (json!({"nbf": now + 2}), Role::Viewer),
            (json!({"exp": now - 2}), Role::Viewer),
            (json!({"exp": 4_000_000_000.75, "nbf": 1.5}), Role::Viewer),
        ] {
            let token = signer.token(json!({}), &publisher.claims(changes.clone()));
            let caller = check(&tokens, &token).await.unwrap_or_else(|refused| panic!("{changes}: {refused}"));
            assert_eq!((caller.role, caller.user.as_str()), (role, "auth0|ann"), "{changes}");
        }
    }
    // A token need not name its key, and may have a type of its own.
    let unnamed = signers[0].token(json!({"kid": null, "typ": "at+jwt"}), &publisher.claims(json!({})));
    assert!(check(&tokens, &unnamed).await.is_ok());
    assert_eq!(publisher.fetched(), 1, "one fetch serves all");
}

/// F12: A refusal names the claim and what is expected of it, and repeats nothing of the token.
#[tokio::test]
async fn f12_a_refusal_tells_the_integrator_which_claim_is_wrong() {
    let signer = Signer::rsa("r-1");
    let publisher = Publisher::start(&[&signer]).await;
    let tokens = tokens(&publisher.settings());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for (changes, expected) in [
        (json!({"iss": "https://other.example"}), vec!["iss", "auth.issuer", publisher.url.as_str()]),
        (json!({"iss": null}), vec!["iss", publisher.url.as_str()]),
        (json!({"aud": "account"}), vec!["aud", "auth.audience", "holdfast, booking"]),
        (json!({"aud": null}), vec!["aud"]),
        (json!({"exp": now - 90}), vec!["exp"]),
        (json!({"nbf": now + 90}), vec!["nbf"]),
        (json!({"exp": null}), vec!["exp"]),
        (json!({"sub": ""}), vec!["sub"]),
        (json!({"groups": ["operator", "viewer"]}), vec!["groups", "studio-staff", "studio-owners"]),
        (json!({"groups": null, "role": "operator"}), vec!["groups"]),
    ] {
        let words = refusal(&tokens, &signer.token(json!({}), &publisher.claims(changes.clone()))).await;
        assert!(expected.iter().all(|one| words.contains(*one)), "{changes}: {words}");
        assert!(!words.contains("auth0|ann") && !words.contains("other.example"), "{words}");
    }
    // Of another issuer's token, whose key is unknown too, the issuer is the reason, and nothing is fetched for it.
    let stranger = Signer::rsa("other").token(json!({}), &publisher.claims(json!({"iss": "https://other.example"})));
    let before = publisher.fetched();
    assert!(refusal(&tokens, &stranger).await.contains("auth.issuer"));
    assert_eq!(publisher.fetched(), before);
}

/// F12: A token is checked with the algorithm of its key alone: no public key is a secret, no header brings a key or leads to
/// one, and no extension that must be understood is passed over.
#[tokio::test]
async fn f12_no_token_chooses_how_it_is_checked() {
    let (rsa, ec, ed) = (Signer::rsa("r-1"), Signer::ec("e-1"), Signer::ed("d-1"));
    let publisher = Publisher::start(&[&rsa, &ec, &ed]).await;
    // A secret beside the issuer's keys: HS256 is accepted, with that secret.
    let secret = "a secret of more than thirty-two bytes";
    let settings = AuthSettings { secret: Some(secret.into()), ..publisher.settings() };
    let tokens = tokens(&settings);
    let good = publisher.claims(json!({"groups": "studio-owners"}));
    let ours = tokens.mint("oscar", Role::Operator, None, OffsetDateTime::now_utc() + time::Duration::HOUR);
    assert!(check(&tokens, &ours.expect("a token")).await.is_ok());
    assert!(check(&tokens, &rsa.token(json!({}), &good)).await.is_ok());

    let mut bad = Vec::new();
    for signer in [&rsa, &ec, &ed] {
        for public in signer.public_in_every_form() {
            for kid in [json!(signer.kid), Value::Null] {
                bad.push(Signer::secret(&public).token(json!({"alg": "HS256", "kid": kid}), &good));
            }
        }
        for alg in ["none", "None", "HS256", "HS512", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", ""] {
            if alg != signer.algorithm() {
                bad.push(signer.token(json!({"alg": alg}), &good));
            }
        }
        // Under the name of another key.
        for other in [&rsa, &ec, &ed].into_iter().filter(|other| other.kid != signer.kid) {
            bad.push(signer.token(json!({"kid": other.kid}), &good));
        }
        for header in [
            json!({"crit": ["exp"]}),
            json!({"crit": ["b64"], "b64": false}),
            json!({"crit": ["x5t#S256"], "x5t#S256": "x"}),
            json!({"crit": []}),
        ] {
            bad.push(signer.token(header, &good));
        }
    }
    let stranger = Signer::rsa("r-1");
    let jwk = stranger.jwk();
    bad.push(stranger.token(json!({}), &good));
    bad.push(stranger.token(json!({"jwk": jwk}), &good));
    bad.push(stranger.token(json!({"jku": format!("{}/keys", publisher.url), "kid": null}), &good));
    let first = bad[0].clone();
    let (head, rest) = first.split_once('.').expect("a token");
    let (payload, _) = rest.split_once('.').expect("a token");
    bad.push(format!("{}.{payload}.", part(&json!({"alg": "none"}))));
    bad.push(format!("{head}.{payload}."));
    for token in &bad {
        let header = token.split('.').next().expect("a header");
        assert!(matches!(check(&tokens, token).await, Err(Unaccepted::Refused(_))), "{header}");
    }
    assert!(publisher.fetched() <= 4, "{} fetches for {} tokens", publisher.fetched(), bad.len());
}

/// F12: A key that the issuer has just put into use is fetched at once, a withdrawn one is gone with the next fetch, and
/// strangers' keys cause few fetches.
#[tokio::test]
async fn f12_rotated_keys_are_followed_and_strangers_cause_few_fetches() {
    let (old, new) = (Signer::rsa("2026-11"), Signer::ec("2026-12"));
    let publisher = Publisher::start(&[&old]).await;
    let tokens = tokens(&publisher.settings());
    let good = publisher.claims(json!({}));
    let (of_old, of_new) = (old.token(json!({}), &good), new.token(json!({}), &good));
    assert!(check(&tokens, &of_old).await.is_ok());
    publisher.publish(&[&new]);
    let all = futures_util::future::join_all((0..50).map(|_| check(&tokens, &of_new))).await;
    assert!(all.iter().all(Result::is_ok), "every one of fifty at once waits for the one fetch");
    assert_eq!(publisher.fetched(), 2);
    let withdrawn = check(&tokens, &of_old).await;
    assert_eq!(withdrawn, Err(Unaccepted::Refused(Refused::UnknownKey)));

    let stranger = Signer::ed("stranger");
    for number in 0..200 {
        let token = stranger.token(json!({"kid": format!("k{number}")}), &good);
        assert!(check(&tokens, &token).await.is_err());
    }
    // The first one, and three that the allowance permits at once.
    assert!(publisher.fetched() <= 4, "{} fetches", publisher.fetched());
    assert!(check(&tokens, &of_new).await.is_ok());
}

/// F12: While the issuer is away its known keys serve; a token with another key is not called bad.
#[tokio::test]
async fn f12_an_issuer_that_is_away_is_an_outage() {
    let signer = Signer::rsa("r-1");
    let publisher = Publisher::start(&[&signer]).await;
    let tokens_of = tokens(&publisher.settings());
    let good = publisher.claims(json!({}));
    assert!(check(&tokens_of, &signer.token(json!({}), &good)).await.is_ok());
    *publisher.keys.lock().unwrap() = Value::Null;
    let of_new = Signer::ec("e-1").token(json!({}), &good);
    assert_eq!(check(&tokens_of, &of_new).await, Err(Unaccepted::IssuerUnavailable));
    assert!(check(&tokens_of, &signer.token(json!({}), &good)).await.is_ok());

    // What answers, and is not this issuer's list of keys, is none.
    for wrong in [
        json!({ "issuer": "https://other.example", "jwks_uri": format!("{}/keys", publisher.url) }),
        json!({ "issuer": publisher.url, "jwks_uri": "http://192.0.2.1/keys" }),
        json!({ "issuer": publisher.url, "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": publisher.url }),
        json!({ "issuer": publisher.url, "jwks_uri": format!("{}/keys", publisher.url), "more": "x".repeat(300_000) }),
        json!([]),
    ] {
        publisher.publish(&[&signer]);
        *publisher.metadata.lock().unwrap() = wrong.clone();
        let before = publisher.fetched();
        let fresh = tokens(&publisher.settings());
        let checked = check(&fresh, &signer.token(json!({}), &good)).await;
        assert_eq!(checked, Err(Unaccepted::IssuerUnavailable), "{wrong}");
        assert_eq!(publisher.fetched(), before, "{wrong}");
    }
}

/// F12: The same by HTTP: a stack whose issuer is away at first, then there; its tokens beside those of `holdfast token`.
#[tokio::test]
async fn f12_a_stack_behind_an_openid_issuer() {
    let port = free_port().await;
    let issuer = format!("http://127.0.0.1:{port}");
    let settings = vec![
        ("HOLDFAST_AUTH__ISSUER", issuer.clone()),
        ("HOLDFAST_AUTH__AUDIENCE", "account,holdfast".to_owned()),
        ("HOLDFAST_AUTH__ROLE_CLAIM", "realm_access.roles".to_owned()),
        ("HOLDFAST_AUTH__ROLES__OPERATOR", "studio-owners".to_owned()),
    ];
    let stack = Stack::start_with("openid", Choice { settings, roles: vec!["api"], ..Choice::default() }).await;
    let me = async |token: &str| Answer::of(stack.request(Method::GET, "/v1/me").bearer_auth(token)).await;
    let minted = stack.holdfast_ok(&["token", "--user", "oscar", "--role", "operator"]).await;
    let answer = me(minted.trim()).await;
    assert_eq!((&answer.body["user"], &answer.body["role"]), (&json!("oscar"), &json!("operator")), "{}", answer.body);

    let signer = Signer::rsa("r-1");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": issuer, "sub": "ann", "aud": "holdfast", "exp": now + 300,
            "realm_access": { "roles": ["offline_access", "studio-owners"] },
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let good = signer.token(json!({}), &claims(json!({})));
    let answer = me(&good).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "temporarily-unavailable"), "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));

    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port");
    let publisher = Publisher::start_at(listener, &[&signer]);
    let answer = until("the issuer's keys are there", async || {
        let answer = me(&good).await;
        (answer.status.as_u16() != 503).then_some(answer)
    })
    .await;
    assert_eq!((&answer.body["user"], &answer.body["role"]), (&json!("ann"), &json!("operator")), "{}", answer.body);
    assert!(publisher.fetched() > 0);
    let cases = stack.request(Method::GET, "/v1/ops/cases").bearer_auth(&good);
    assert_eq!(Answer::of(cases).await.status, StatusCode::OK.as_u16());
    for (changes, claim) in [
        (json!({"aud": "other"}), "aud"),
        (json!({"iss": "https://x.example"}), "iss"),
        (json!({"exp": now - 90}), "exp"),
    ] {
        let answer = me(&signer.token(json!({}), &claims(changes))).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (401, "unauthenticated"), "{}", answer.body);
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(claim)), "{}", answer.body);
    }
}

/// F12: An issuer's keys may come from a file, which is read again when it changes.
#[tokio::test]
async fn f12_an_issuers_keys_may_come_from_a_file() {
    let (old, new) = (Signer::ec("2026-11"), Signer::ed("2026-12"));
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("openid-keys.json");
    let write = |signer: &Signer| std::fs::write(&file, json!({ "keys": [signer.jwk()] }).to_string()).expect("a file");
    write(&old);
    let settings = vec![
        ("HOLDFAST_AUTH__ISSUER", "https://login.example.com".to_owned()),
        ("HOLDFAST_AUTH__AUDIENCE", "holdfast".to_owned()),
        ("HOLDFAST_AUTH__JWKS_FILE", file.to_str().expect("UTF-8").to_owned()),
    ];
    let stack = Stack::start_with("openid-file", Choice { settings, roles: vec!["api"], ..Choice::default() }).await;
    let exp = OffsetDateTime::now_utc().unix_timestamp() + 300;
    let claims =
        json!({"iss": "https://login.example.com", "sub": "ann", "aud": "holdfast", "role": "viewer", "exp": exp});
    let status = async |signer: &Signer| {
        let token = signer.token(json!({}), &claims);
        Answer::of(stack.request(Method::GET, "/v1/me").bearer_auth(token)).await.status.as_u16()
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    write(&new);
    until("the new key is in force", async || (status(&new).await == 200).then_some(())).await;
    assert_eq!(status(&old).await, 401);
}
