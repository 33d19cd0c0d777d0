//! Limits per address: who is counted behind a proxy, who is not, and who is hung up on.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::stack::{Answer, Choice, Stack, until};

const FORWARDED_FOR: &str = "X-Forwarded-For";

async fn stack_with(test: &str, trusted_proxies: &str) -> Stack {
    let settings = vec![
        ("HOLDFAST_API__TRUSTED_PROXIES", trusted_proxies.to_owned()),
        ("HOLDFAST_API__ADDRESS_REQUESTS_PER_SECOND", "1".to_owned()),
        ("HOLDFAST_API__ADDRESS_REQUESTS_BURST", "3".to_owned()),
        ("HOLDFAST_API__ADDRESS_CONNECTIONS_MAX", "4".to_owned()),
    ];
    Stack::start_with(test, Choice { roles: vec!["api"], settings, ..Choice::default() }).await
}

/// Asks until the limit is met; answers how often it was let in, and the refusal.
async fn ask_as(stack: &Stack, method: Method, path: &str, client: &str) -> (usize, Option<Answer>) {
    for asked in 0..10 {
        let answer = Answer::of(stack.request(method.clone(), path).header(FORWARDED_FOR, client)).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return (asked, Some(answer));
        }
    }
    (10, None)
}

#[tokio::test]
async fn s6_4_each_address_has_its_measure_behind_a_trusted_proxy() {
    // As by default: this machine's proxy is believed.
    let stack = stack_with("addresses-proxy", "127.0.0.0/8, ::1").await;
    let list = async |client: &str| ask_as(&stack, Method::GET, "/v1/schedules", client).await;
    // The burst, and what grew back meanwhile.
    let (let_in, refusal) = list("203.0.113.9").await;
    assert!((3..=5).contains(&let_in), "{let_in}");
    let refusal = refusal.expect("a limit");
    assert_eq!(refusal.problem(), "too-many-requests");
    assert_eq!(refusal.headers["retry-after"], "1");
    // What the client claims of itself changes nothing; what is in front of the last address is the client's.
    assert_eq!(list("198.51.100.1, 203.0.113.9").await.0, 0);
    let (other, _) = list("203.0.113.10").await;
    assert!((3..=5).contains(&other), "another address has another measure: {other}");
    let (page, _) = ask_as(&stack, Method::GET, "/docs", "203.0.113.11").await;
    assert!((3..=5).contains(&page), "pages count as well: {page}");
    // One subscriber has a whole /64.
    assert!(list("2001:db8::1").await.1.is_some() && list("2001:db8::2").await.0 == 0);
    assert!(list("2001:db8:0:1::2").await.0 > 0);
    // This machine itself and WeChat are not counted.
    assert!(list("127.0.0.1").await.1.is_none());
    // F4: whom we cannot read counts, together with everybody of whom we know as little.
    let (unread, refused) = list("unknown").await;
    assert!((3..=5).contains(&unread) && refused.is_some(), "{unread}");
    assert_eq!(list("203.0.113.9, _hidden").await.0, 0);
    let (callbacks, refused) = ask_as(&stack, Method::POST, "/v1/wechat/notify/payments", "203.0.113.9").await;
    assert!(callbacks == 10 && refused.is_none());
}

#[tokio::test]
async fn s6_4_nobody_names_their_own_address_without_a_trusted_proxy() {
    let stack = stack_with("addresses-bare", "").await;
    let mut let_in = 0;
    for client in 1..=10 {
        let request = stack.request(Method::GET, "/v1/schedules").header(FORWARDED_FOR, format!("203.0.113.{client}"));
        let_in += usize::from(Answer::of(request).await.status != StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((3..=5).contains(&let_in), "ten names, one address: {let_in}");

    // A fifth connection is hung up on, and there is a place again when one goes. One is the client's above.
    let address = stack.api.strip_prefix("http://").expect("an address").to_owned();
    let mut held = Vec::new();
    let hung_up = loop {
        let mut one = TcpStream::connect(&address).await.expect("a connection");
        // Silence: it was let in.
        match tokio::time::timeout(Duration::from_millis(300), one.read(&mut [0])).await {
            Err(_) => held.push(one),
            Ok(_) => break held.len(),
        }
    };
    assert!((3..=4).contains(&hung_up), "{hung_up}");
    held.clear();
    until("there is a place again", async || Answer::try_of(stack.http.get(format!("{}/docs", stack.api))).await.ok())
        .await;
}
