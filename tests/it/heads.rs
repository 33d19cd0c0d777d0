//! Heads that two readers could read differently, sent below the level of an HTTP client; and the header that keeps browsers on
//! https.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stack::{Choice, Stack};

/// Sends these bytes and reads all answers until the server hangs up. Each text asks for that with its last request.
async fn raw(stack: &Stack, text: &str) -> Vec<u16> {
    let mut wire =
        TcpStream::connect(stack.api.strip_prefix("http://").expect("an address")).await.expect("a connection");
    wire.write_all(text.as_bytes()).await.expect("sent");
    let mut said = Vec::new();
    // A server that refused has hung up with bytes unread, which may reset the connection behind its answer.
    let _ = wire.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    let statuses = said.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).and_then(|status| status.parse().ok()));
    statuses.map(|status| status.expect("a status")).collect()
}

/// F14: a line feed alone ended a line, and of two hosts the first counted.
#[tokio::test]
async fn f14_a_head_that_two_readers_read_differently_is_refused() {
    let stack = Stack::start_with("heads", Choice { roles: vec!["api"], ..Choice::default() }).await;
    const GET: &str = "GET /docs HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let post = |head: &str, body: &str| format!("POST /v1/orders HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n{body}");
    let get = |line: &str, fields: &str| format!("GET {line}\r\n{fields}Connection: close\r\n\r\n");
    for (name, text, statuses) in [
        ("as it should be", GET.to_owned(), &[200][..]),
        ("empty lines before it", format!("\r\n\r\n{GET}"), &[200]),
        ("the address names the same host", get("http://h/docs HTTP/1.1", "Host: h\r\n"), &[200]),
        // Answered as HTTP/1.0, which is not counted here.
        ("HTTP/1.0 without a host", get("/docs HTTP/1.0", ""), &[]),
        ("two requests", format!("{}{GET}", post("Content-Length: 4", "\n\n{}")), &[401, 200]),
        // A chunked body tells its end itself; what follows it is not read.
        (
            "a request behind chunks",
            format!("{}{GET}", post("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")),
            &[401],
        ),
        ("a line feed behind the request line", "GET /docs HTTP/1.1\nHost: h\r\n\r\n".into(), &[400]),
        (
            "a line feed behind a field",
            "GET /docs HTTP/1.1\r\nHost: h\nX-Forwarded-For: 1.1.1.1\r\n\r\n".into(),
            &[400],
        ),
        ("a line feed at the end of the head", "GET /docs HTTP/1.1\r\nHost: h\r\n\n".into(), &[400]),
        ("line feeds alone", "GET /docs HTTP/1.1\nHost: h\n\n".into(), &[400]),
        ("a line feed before it", format!("\n{GET}"), &[400]),
        ("a carriage return alone", "GET /docs HTTP/1.1\r\nHost: h\rX-A: 1\r\n\r\n".into(), &[400]),
        ("two hosts", get("/docs HTTP/1.1", "Host: h\r\nHost: g\r\n"), &[400]),
        ("one host twice", get("/docs HTTP/1.1", "Host: h\r\nhost: h\r\n"), &[400]),
        ("no host", get("/docs HTTP/1.1", ""), &[400]),
        ("an empty host", get("/docs HTTP/1.1", "Host:\r\n"), &[400]),
        ("a list of hosts", get("/docs HTTP/1.1", "Host: h, g\r\n"), &[400]),
        ("a host with a login", get("/docs HTTP/1.1", "Host: u@h\r\n"), &[400]),
        ("the address names another host", get("http://g/docs HTTP/1.1", "Host: h\r\n"), &[400]),
    ] {
        let answered = raw(&stack, &text).await;
        assert_eq!(answered, statuses, "{name}: {text:?}");
    }
    // Of two requests the first may be answered before the second is seen; then the connection ends.
    let second = format!("{}GET /docs HTTP/1.1\nHost: h\r\n\r\n{GET}", post("Content-Length: 2", "{}"));
    let answered = raw(&stack, &second).await;
    assert!(answered == [400] || answered == [401, 400], "{answered:?}");
}

/// F14: a browser that was sent to plain http went there.
#[tokio::test]
async fn f14_browsers_are_told_to_come_by_https() {
    let hsts = "strict-transport-security";
    let plain = Stack::start_with("heads-plain", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let answer = plain.http.get(format!("{}/docs", plain.api)).send().await.expect("an answer");
    assert!(answer.headers().get(hsts).is_none());
    let settings = vec![
        ("HOLDFAST_API__DEVELOPMENT", "false".to_owned()),
        ("HOLDFAST_API__PUBLIC_URL", "https://book.example.com".to_owned()),
    ];
    let stack = Stack::start_with("heads-https", Choice { roles: vec!["api"], settings, ..Choice::default() }).await;
    for path in ["/docs", "/", "/nowhere", "/v1/orders", "/openapi.json"] {
        let answer = stack.http.get(format!("{}{path}", stack.api)).send().await.expect("an answer");
        assert_eq!(answer.headers()[hsts], "max-age=31536000", "{path}");
    }
}
