//! Links to bills: our signature goes to WeChat's host alone, whatever link WeChat has signed.

use std::net::TcpListener;

use time::{Date, macros::date};

use super::support::{Reply, Server, client, header_map, settings};
use crate::wechat::answers::Class;

const DAY: Date = date!(2025 - 11 - 24);

fn ready(link: &str) -> Reply {
    let body = serde_json::json!({"hash_type": "SHA1", "hash_value": "00", "download_url": link});
    Reply::signed(200, &body.to_string())
}

/// F10: a link to another host, port or scheme, or with a login, is no link.
#[tokio::test]
async fn a_link_to_another_host_is_not_taken() {
    for link in [
        "http://127.0.0.1:1/v3/billdownload/file?token=x",
        "http://127.0.0.1/v3/billdownload/file?token=x",
        "https://api.mch.weixin.qq.com/v3/billdownload/file?token=x",
        "ftp://HOST/v3/billdownload/file",
        "https://HOST/v3/billdownload/file",
        "http://user@HOST/v3/billdownload/file",
        "http://:secret@HOST/v3/billdownload/file",
        "http://HOST@127.0.0.1:1/v3/billdownload/file",
        "http://HOST.example.com/v3/billdownload/file",
        "//HOST/v3/billdownload/file",
        "/v3/billdownload/file",
        "file:///v3/billdownload/file",
    ] {
        let server = Server::start_with(|url| vec![ready(&link.replace("HOST", url.trim_start_matches("http://")))]);
        let doubt = client(&settings(&server.url)).trade_bill(DAY).await.expect_err(link);
        assert_eq!(doubt.class, Class::Unknown, "{link}: {doubt}");
    }
}

/// F10: what looks like a host within the path stays a path, and a redirect is an answer that says nothing.
#[tokio::test]
async fn a_link_leads_nowhere_but_to_wechats_host() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    stranger.set_nonblocking(true).expect("polled");
    let elsewhere = stranger.local_addr().expect("an address");
    let redirect = header_map(&[("Location", &format!("http://{elsewhere}/"))]);
    for path in [format!("//{elsewhere}/v3/billdownload/file"), "/v3/billdownload/file".to_owned()] {
        let server = Server::start_with(|url| {
            vec![ready(&format!("{url}{path}?token=x")), Reply::Http(302, redirect.clone(), Vec::new())]
        });
        let client = client(&settings(&server.url));
        let link = client.trade_bill(DAY).await.expect("an answer").expect("a bill");
        assert!(client.download_bill(&link).await.is_err(), "{path}");
        assert_eq!(server.seen()[1].line, format!("GET {path}?token=x HTTP/1.1"));
    }
    assert!(stranger.accept().is_err(), "somebody called the stranger");
}
