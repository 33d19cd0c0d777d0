//! Every wire encrypted, against the real servers: whoever shows the wrong authority's certificate, or one for another
//! name, is not believed.

use std::{fs, path::PathBuf, time::Duration};

use holdfast::{
    broker::Link,
    cache::{Cache, CacheSettings},
    store::{Database, Plans},
};
use reqwest::{Certificate, Client};
use uuid::Uuid;

use crate::stack::{
    Choice, Stack, WORKERS, free_port,
    server_resources::{VirtualHost, server},
    until,
};

fn file(name: &str) -> String {
    format!("{}/{name}", server("TLS_DIRECTORY"))
}

/// The URL with another host: the certificate is for `localhost` alone.
fn by_another_name(url: &str) -> String {
    url.replace("@localhost:", "@127.0.0.1:")
}

#[tokio::test]
async fn s6_4_postgresql_is_believed_by_its_authority_and_name_alone() {
    let opened = async |url: &str, authority: &str| {
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", file(authority));
        let database = Database::open(&url.into(), 1, Plans::Chosen).expect("a readable URL");
        sqlx::query_scalar::<_, bool>("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(database.pool())
            .await
            .is_ok_and(|encrypted| encrypted)
    };
    let url = server("DATABASE_TLS_URL");
    assert!(opened(&url, "ca.pem").await);
    assert!(!opened(&url, "stranger.pem").await, "a stranger's certificate was believed");
    assert!(!opened(&by_another_name(&url), "ca.pem").await, "a certificate for another name was believed");
}

#[tokio::test]
async fn s6_4_rabbitmq_is_believed_by_its_authority_and_name_alone() {
    let host = VirtualHost::make().await;
    let (_, name) = host.amqp_url.rsplit_once('/').expect("a virtual host");
    let (url, _) = server("AMQPS_URL").rsplit_once('/').map(|(url, _)| (format!("{url}/{name}"), ())).expect("a URL");
    let opened = async |url: String| Link::new(url.into(), "TLS test".into()).touch().await.is_ok();
    let ca = format!("cacertfile={}", file("ca.pem"));
    let client = |key: &str| format!("certfile={}&keyfile={}", file("client.pem"), file(key));

    assert!(opened(format!("{url}?{ca}")).await);
    assert!(opened(format!("{url}?{ca}&{}", client("client.key"))).await, "a client's own certificate");
    assert!(!opened(format!("{url}?{ca}&{}", client("stranger.key"))).await, "a key of another certificate");
    assert!(!opened(url.clone()).await, "an unknown authority's certificate was believed");
    assert!(!opened(format!("{url}?cacertfile={}", file("stranger.pem"))).await);
    assert!(!opened(format!("{}?{ca}", by_another_name(&url))).await, "another name's certificate was believed");
}

#[tokio::test]
async fn s6_4_redis_is_believed_by_its_authority_and_name_alone() {
    let opened = async |url: String| {
        let key_prefix = format!("{}:", Uuid::now_v7());
        let settings = CacheSettings { url: Some(url.into()), key_prefix, call_limit_ms: 5_000 };
        Cache::open(&settings).expect("a readable URL").ping().await.is_ok()
    };
    let url = server("REDISS_URL");
    let ca = format!("cacertfile={}", file("ca.pem"));
    assert!(opened(format!("{url}?{ca}")).await);
    assert!(opened(format!("{url}?{ca}&certfile={}&keyfile={}", file("client.pem"), file("client.key"))).await);
    assert!(!opened(url.clone()).await, "an unknown authority's certificate was believed");
    assert!(!opened(format!("{url}?cacertfile={}", file("stranger.pem"))).await);
    assert!(!opened(format!("{}?{ca}", by_another_name(&url))).await, "another name's certificate was believed");
}

/// A stack whose processes reach every server by TLS.
#[tokio::test]
async fn s6_4_a_booking_is_confirmed_with_every_wire_encrypted() {
    let mut stack = Stack::start_with("tls", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let replaced = |tls: &str, plain: &str| {
        let (server, _) = tls.rsplit_once('/').expect("a path");
        let (_, path) = plain.rsplit_once('/').expect("a path");
        format!("{server}/{}", path.split('?').next().unwrap_or_default())
    };
    let ca = file("ca.pem");
    for (name, tls, query) in [
        ("DATABASE_URL", "DATABASE_TLS_URL", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("AMQP_URL", "AMQPS_URL", format!("cacertfile={ca}")),
        ("REDIS_URL", "REDISS_URL", format!("cacertfile={ca}")),
    ] {
        let url = format!("{}?{query}", replaced(&server(tls), &stack.environment[name]));
        stack.environment.insert(name.to_owned(), url);
    }
    for role in ["api"].into_iter().chain(WORKERS) {
        stack.spawn(role);
    }
    stack.until_ready().await;
    let schedule = stack.add_schedule(1).await;
    let token = stack.token("tess").await;
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&token, &order, "confirmed").await;
    stack.check_invariants().await;
}

/// Knows one authority and nobody else.
fn client_of(authority: &str) -> Client {
    let pem = fs::read(file(authority)).expect("a certificate");
    let authority = Certificate::from_pem(&pem).expect("PEM");
    Client::builder().no_proxy().tls_certs_only([authority]).pool_max_idle_per_host(0).build().expect("a client")
}

#[tokio::test]
async fn s6_4_the_ingress_speaks_tls_and_takes_up_a_renewed_certificate() {
    let mut stack = Stack::start_with("tls-ingress", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let port = free_port().await;
    let own: [PathBuf; 2] = ["tls.crt", "tls.key"].map(|name| stack.artifact(name));
    let install = |certificate: &str, key: &str| {
        fs::copy(file(certificate), &own[0]).expect("copied");
        fs::copy(file(key), &own[1]).expect("copied");
    };
    install("server.pem", "server.key");
    for (setting, value) in [
        ("HOLDFAST_API__LISTEN", format!("127.0.0.1:{port}")),
        ("HOLDFAST_API__CERTIFICATE_FILE", own[0].display().to_string()),
        ("HOLDFAST_API__KEY_FILE", own[1].display().to_string()),
    ] {
        stack.environment.insert(setting.to_owned(), value);
    }
    stack.spawn("api");
    let url = format!("https://localhost:{port}/docs");
    let trusting = client_of("ca.pem");
    until("the ingress answers by TLS", async || trusting.get(&url).send().await.ok()).await;
    assert!(client_of("stranger.pem").get(&url).send().await.is_err(), "a stranger's certificate was believed");
    assert!(trusting.get(url.replace("localhost", "127.0.0.1")).send().await.is_err(), "another name was believed");
    assert!(stack.http.get(format!("http://localhost:{port}/docs")).send().await.is_err(), "plain HTTP was answered");

    // Somebody who says nothing does not keep the others waiting.
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    assert!(trusting.get(&url).timeout(Duration::from_secs(5)).send().await.is_ok());

    install("strange-server.pem", "strange-server.key");
    let trusting_the_new_one = client_of("stranger.pem");
    until("the renewed certificate is shown", async || trusting_the_new_one.get(&url).send().await.ok()).await;
}
