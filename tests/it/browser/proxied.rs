//! The console behind a proxy that signs people in, as oauth2-proxy does: the browser has its cookie, the API gets a token.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::{
    chromium::{Chromium, DESKTOP},
    signers::Signer,
    stack::{Answer, Choice, Stack},
};

/// What the proxy knows.
#[derive(Clone)]
struct Proxy {
    http: reqwest::Client,
    api: String,
    token: String,
}

/// `/login` gives the cookie; with it each request goes on with the token, without it none does.
async fn forward(State(proxy): State<Proxy>, request: Request) -> Response<Body> {
    if request.uri().path() == "/login" {
        let headers =
            [(header::SET_COOKIE, "session=1; HttpOnly; SameSite=Lax"), (header::LOCATION, "/console?lang=en")];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    let is_known = request.headers().get(header::COOKIE).is_some_and(|cookie| cookie == "session=1");
    if !is_known && request.uri().path().starts_with("/v1/") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small body");
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    headers.remove(header::COOKIE);
    headers.remove(header::ACCEPT_ENCODING);
    if is_known {
        headers
            .insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {}", proxy.token)).expect("a header"));
    }
    let address = format!("{}{}", proxy.api, parts.uri.path_and_query().map_or("/", |path| path.as_str()));
    let answer = proxy.http.request(parts.method, address).headers(headers).body(body).send().await;
    let answer = answer.expect("the ingress answers");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    for name in [header::CONTENT_TYPE, header::CONTENT_SECURITY_POLICY, header::CACHE_CONTROL] {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    response
}

/// F12: Behind a proxy that signs people in the console wants no token: it shows who the API says it is, and acts; without the
/// proxy's session it offers the way back to it. A page of another site cannot use that session.
#[tokio::test]
async fn f12_the_console_works_behind_a_proxy_that_signs_people_in() {
    let signer = Signer::rsa("r-1");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxied-keys.json");
    std::fs::write(&file, json!({ "keys": [signer.jwk()] }).to_string()).expect("a file");
    let settings = vec![
        ("HOLDFAST_API__CONSOLE_SIGN_IN", "proxy".to_owned()),
        ("HOLDFAST_AUTH__ISSUER", "https://login.example.com".to_owned()),
        ("HOLDFAST_AUTH__AUDIENCE", "console".to_owned()),
        ("HOLDFAST_AUTH__JWKS_FILE", file.to_str().expect("UTF-8").to_owned()),
        ("HOLDFAST_AUTH__ROLE_CLAIM", "groups".to_owned()),
        ("HOLDFAST_AUTH__ROLES__OPERATOR", "studio-owners".to_owned()),
    ];
    let stack =
        Stack::start_with("browser-proxied", Choice { settings, roles: vec!["api"], ..Choice::default() }).await;
    let token = signer.token(
        json!({}),
        &json!({
            "iss": "https://login.example.com", "aud": "console", "sub": "dora", "groups": ["everyone", "studio-owners"],
            "exp": OffsetDateTime::now_utc().unix_timestamp() + 3_600,
        }),
    );
    let proxy = Proxy { http: stack.http.clone(), api: stack.api.clone(), token: token.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let front = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(forward).with_state(proxy);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    browser.client.goto(&format!("{front}/console?lang=en")).await.expect("the console");
    browser.until_says("[data-testid=sign-in-proxy]", "Sign in again").await;
    browser.client.goto(&format!("{front}/login")).await.expect("the console");
    browser.until_says("h1", "What stands open").await;
    browser.until_says(".who", "dora").await;
    browser.until_says("[data-testid=role]", "Operator").await;
    browser.until_says("[data-testid=pulse]", "Live").await;
    assert_eq!(browser.value("sessionStorage.length").await, 0, "the page keeps no token");
    browser.close(&["status of 401"]).await;

    for (site, status) in [(None, 404), (Some("same-origin"), 404), (Some("cross-site"), 403), (Some("same-site"), 403)]
    {
        let withdraw = format!("/v1/ops/overrides/{}/withdraw", uuid::Uuid::now_v7());
        let mut request = stack.request(Method::POST, &withdraw).bearer_auth(&token);
        if let Some(site) = site {
            request = request.header("Sec-Fetch-Site", site);
        }
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, status, "{site:?}: {}", answer.body);
    }
}
