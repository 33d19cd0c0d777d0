//! Connections: how long one is kept on which nothing is asked.

use super::support::{client, settings};
use crate::wechat::connection::http_client;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// WeChat closes a connection after so much silence.
const WECHATS_PATIENCE: Duration = Duration::from_secs(8);

/// Reads one request without a body and answers it, keeping the connection.
async fn answer(wire: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(wire.read_buf(&mut head).await.expect("a request"), 0);
    }
    wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.expect("answered");
}

/// Answers two requests on one connection and waits for its end.
async fn serve(listener: TcpListener) {
    let (mut wire, _) = listener.accept().await.expect("a caller");
    answer(&mut wire).await;
    answer(&mut wire).await;
    let closed = tokio::time::timeout(WECHATS_PATIENCE, wire.read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0))), "the client closes first: {closed:?}");
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// G2: a connection is given up before WeChat closes it, to either host; until then it is used again.
#[tokio::test]
async fn an_idle_connection_is_closed_by_us_before_wechat_does() {
    let (of_pay, url) = listen().await;
    let pay = client(&settings(&url));
    let by_pay = async {
        for number in ["hf0001", "hf0002"] {
            pay.query_order(number).await.expect_err("nothing signed");
        }
    };
    let (of_account, url) = listen().await;
    let account = http_client(&url.parse().expect("a URL"), Duration::from_secs(5)).expect("a client");
    let by_account = async {
        for _ in 0..2 {
            account.get(&url).send().await.expect("an answer").bytes().await.expect("a body");
        }
    };
    tokio::join!(by_pay, serve(of_pay), by_account, serve(of_account));
}
