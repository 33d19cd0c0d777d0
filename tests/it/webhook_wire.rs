//! WeChat's address attacked below the level of an HTTP client: heads that say two things, bodies that end early, and
//! good letters dressed strangely.

use reqwest::{Method, StatusCode};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    forgery::{Forger, Letter, SERIAL, SIGNATURE, paid},
    stack::{Answer, Choice, Stack},
};

const PATH: &str = "/v1/wechat/notify/payments";

/// Sends these bytes and reads all that comes back; with `ends`, hangs up before it is answered.
async fn raw(stack: &Stack, head: &[String], body: &str, ends: bool) -> String {
    let address = stack.api.strip_prefix("http://").expect("an address");
    let mut wire = TcpStream::connect(address).await.expect("a connection");
    let bytes = format!("POST {PATH} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{}\r\n\r\n{body}", head.join("\r\n"));
    wire.write_all(bytes.as_bytes()).await.expect("sent");
    if ends {
        wire.shutdown().await.expect("ended");
    }
    let mut said = Vec::new();
    let _ = wire.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

fn head(letter: &Letter) -> Vec<String> {
    letter.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[tokio::test]
async fn s4_1_a_head_that_says_two_things_or_a_body_that_ends_early_is_refused() {
    let stack = Stack::start_with("webhook-wire", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let forger = Forger::of(&stack);
    let good = forger.callback(&paid(&stack, "hf00000001", "4200000001"));
    let length = good.body.len();
    let with = |lines: &[String]| [head(&good).as_slice(), lines].concat();
    let sized = |size: usize| format!("content-length: {size}");
    let other = forger.sign("{}".into(), OffsetDateTime::now_utc());
    let second = |name: &str| with(&[sized(length), format!("{name}: {}", other.header(name))]);
    let chunked = format!("{length:x}\r\n{}\r\n0\r\n\r\nPOST {PATH} HTTP/1.1\r\nhost: h\r\n\r\n", good.body);
    let empty = String::new();
    for (name, lines, body, statuses) in [
        ("two signatures", second(SIGNATURE), &good.body, &[401][..]),
        ("two serials", second(SERIAL), &good.body, &[401]),
        ("two timestamps", second("Wechatpay-Timestamp"), &good.body, &[401]),
        ("two nonces", second("Wechatpay-Nonce"), &good.body, &[401]),
        (
            "a header folded over two lines",
            with(&[sized(length), "x-a: 1\r\n Wechatpay-Nonce: 2".into()]),
            &good.body,
            &[400],
        ),
        ("a space before the colon", with(&[sized(length), "Wechatpay-Nonce : x".into()]), &good.body, &[400]),
        ("two lengths", with(&[sized(length), sized(3)]), &good.body, &[400]),
        ("a length below zero", with(&["content-length: -1".into()]), &good.body, &[400]),
        ("no length", with(&[]), &empty, &[401]),
        ("a length that is too short", with(&[sized(length - 1)]), &good.body, &[401]),
        ("a length of a gigabyte", with(&[sized(1 << 30)]), &good.body, &[400, 413]),
        ("the connection ends in the body", with(&[sized(length + 9)]), &good.body, &[400]),
        ("a broken chunk", with(&["transfer-encoding: chunked".into()]), &"zz\r\n{}\r\n0\r\n\r\n".to_owned(), &[400]),
        ("an encoding nobody knows", with(&["transfer-encoding: cow".into()]), &good.body, &[400, 501]),
    ] {
        let ends = name.contains("ends") || name.contains("gigabyte");
        let said = raw(&stack, &lines, body, ends).await;
        let status: Option<u16> = said.split(' ').nth(1).and_then(|status| status.parse().ok());
        // Who hangs up is not always answered.
        assert!(status.map_or(ends, |status| statuses.contains(&status)), "{name}: {said}");
    }
    assert_eq!(stack.ready_in("payments").await, 0, "none of these became a payment");

    // With both a length and chunks the chunks count (RFC 9112, 6.3), and the connection is not used again: what hides
    // behind the body is no second request.
    let smuggled = raw(&stack, &with(&["transfer-encoding: chunked".into(), sized(5)]), &chunked, false).await;
    assert_eq!(smuggled.matches("HTTP/1.1 ").count(), 1, "{smuggled}");
    let taken = u32::from(smuggled.starts_with("HTTP/1.1 204"));
    assert_eq!(stack.ready_in("payments").await, taken);

    // What counts is the signature: a good letter is taken in whatever dress, and the same one again changes nothing.
    for (dress, value) in
        [("content-type", "text/plain"), ("x-forwarded-for", "6.6.6.6"), ("authorization", "Bearer x")]
    {
        let request = stack.request(Method::POST, PATH).body(good.body.clone()).header(dress, value);
        let request = good.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        assert_eq!(Answer::of(request).await.status, StatusCode::NO_CONTENT, "{dress}");
    }
    assert_eq!(stack.ready_in("payments").await, taken + 3);
    stack.check_invariants().await;
}
