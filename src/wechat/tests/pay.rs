//! The calls over a real connection: what goes out, and what each kind of answer becomes.

use super::support::{
    MERCHANT, NOW, PLATFORM, PUBLIC_KEY_ID, Reply, STRANGER, Server, client, settings, signed_headers,
};
use crate::wechat::answers::{Claim, Class, Inconclusive};
use crate::wechat::exchange::PayClient;
use crate::wechat::pay::{CodeUrl, NewOrder, NewRefund, OrderClosed};
use crate::wechat::refund::RefundStatus;
use crate::wechat::transaction::Standing;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use time::macros::datetime;

const ORDER: NewOrder<'static> = NewOrder {
    out_trade_no: "hf0001",
    description: "晨间瑜伽 😀 · 座位 7",
    total_fen: 20_000,
    time_expire: datetime!(2025-11-24 16:30:00.5 UTC),
};
const CODE: &str = r#"{"code_url":"weixin://wxpay/bizpayurl/up?pr=NwY5Mz9&groupid=00"}"#;

fn serve(replies: Vec<Reply>) -> (Server, PayClient) {
    let server = Server::start(replies);
    let client = client(&settings(&server.url));
    (server, client)
}

async fn create(reply: Reply) -> Result<CodeUrl, Inconclusive> {
    serve(vec![reply]).1.create_native_order(&ORDER).await
}

#[tokio::test]
async fn s2_3_an_order_goes_out_signed_over_the_bytes_sent() {
    let (server, client) = serve(vec![Reply::signed(200, CODE)]);
    let code = client.create_native_order(&ORDER).await.expect("a code");
    assert_eq!(code.0, "weixin://wxpay/bizpayurl/up?pr=NwY5Mz9&groupid=00");
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v3/pay/transactions/native HTTP/1.1");
    assert_eq!(seen.headers["wechatpay-serial"], PUBLIC_KEY_ID);
    assert_eq!(seen.headers["accept"], "application/json");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert!(seen.headers["user-agent"].to_str().expect("text").starts_with("holdfast/"));
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    assert_eq!(
        body,
        json!({
            "appid": "wx8888888888888888", "mchid": "1900000109", "out_trade_no": "hf0001",
            "description": "晨间瑜伽  · 座位 7", "time_expire": "2025-11-25T00:30:00+08:00",
            "notify_url": "http://127.0.0.1:8080/v1/wechat/notify/payments",
            "amount": {"total": 20000, "currency": "CNY"},
        })
    );
    assert_signed("POST", "/v3/pay/transactions/native", seen);
}

fn assert_signed(method: &str, target: &str, seen: &super::support::Seen) {
    let header = seen.headers["authorization"].to_str().expect("text");
    let member = |name: &str| {
        let (_, rest) = header.split_once(&format!("{name}=\"")).expect("the member");
        rest.split_once('"').expect("its end").0.to_owned()
    };
    let (timestamp, nonce) = (member("timestamp"), member("nonce_str"));
    let lines = format!("{method}\n{target}\n{timestamp}\n{nonce}\n");
    let lines = [lines.as_bytes(), &seen.body, b"\n"].concat();
    let signature = BASE64.decode(member("signature")).expect("base64");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, MERCHANT.public_key())
        .verify(&lines, &signature)
        .expect("the signature covers what was sent");
}

#[tokio::test]
async fn an_odd_number_is_encoded_alike_in_path_and_signature() {
    let odd = "a|b*c_d-";
    let answer = json!({"out_trade_no": odd, "trade_state": "NOTPAY"}).to_string();
    let (server, client) = serve(vec![Reply::signed(200, &answer), Reply::signed(204, "")]);
    let transaction = client.query_order(odd).await.expect("an answer");
    assert_eq!(transaction.standing(), Standing::Unpaid);
    assert_eq!(client.close_order(odd).await, Ok(OrderClosed));
    let seen = server.seen();
    let path = "/v3/pay/transactions/out-trade-no/a%7Cb%2Ac_d-";
    let (query, close) = (format!("{path}?mchid=1900000109"), format!("{path}/close"));
    assert_eq!(seen[0].line, format!("GET {query} HTTP/1.1"));
    assert_signed("GET", &query, &seen[0]);
    assert_eq!(seen[1].line, format!("POST {close} HTTP/1.1"));
    assert_eq!(seen[1].body, br#"{"mchid":"1900000109"}"#);
    assert_signed("POST", &close, &seen[1]);
}

#[tokio::test]
async fn s2_4_whatever_is_not_signed_is_unknown() {
    let foreign = signed_headers(&STRANGER, PUBLIC_KEY_ID, NOW, CODE.as_bytes());
    let old = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW - 300, CODE.as_bytes());
    let mut probe = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, CODE.as_bytes());
    let signature = probe["wechatpay-signature"].to_str().expect("text").to_owned();
    let signature = format!("WECHATPAY/SIGNTEST/{signature}");
    probe.insert("wechatpay-signature", signature.parse().expect("a value"));
    for (name, reply) in [
        ("lost answer", Reply::Nothing),
        ("no signature", Reply::plain(200, CODE)),
        ("another's signature", Reply::Http(200, foreign, CODE.into())),
        ("old signature", Reply::Http(200, old, CODE.into())),
        ("SIGNTEST", Reply::Http(200, probe, CODE.into())),
        ("gateway page", Reply::plain(502, "<html>")),
        ("system error", Reply::plain(500, r#"{"code":"SYSTEM_ERROR","message":""}"#)),
        ("redirect", Reply::plain(302, "")),
        ("signed nonsense", Reply::signed(200, "<html>")),
        ("signed, no code", Reply::signed(200, r#"{"code_url":"https://example.com"}"#)),
        ("signed, too large", Reply::signed(200, &"x".repeat((1 << 20) + 1))),
    ] {
        let doubt = create(reply).await.expect_err(name);
        assert_eq!(doubt.class, Class::Unknown, "{name}: {doubt}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_unknown() {
    let away = client(&settings("http://127.0.0.1:1"));
    let doubt = away.query_order("hf0001").await.expect_err("nobody listens");
    assert_eq!((doubt.class, doubt.status), (Class::Unknown, None));

    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = settings(&format!("http://{}", silent.local_addr().expect("address")));
    settings.timeout_ms = Some(100);
    let doubt = client(&settings).close_order("hf0001").await.expect_err("a time-out");
    assert_eq!((doubt.class, doubt.status), (Class::Unknown, None));
}

#[tokio::test]
async fn an_error_keeps_what_support_will_ask_for() {
    let body = r#"{"code":"ORDERPAID","message":"该订单已支付"}"#;
    let headers = super::support::header_map(&[("Request-ID", "08E2-268449538")]);
    let (_server, client) = serve(vec![Reply::Http(400, headers, body.into())]);
    let doubt = client.close_order("hf0001").await.expect_err("paid");
    assert_eq!(doubt.class, Class::Claimed(Claim::Paid));
    assert_eq!(doubt.code.as_deref(), Some("ORDERPAID"));
    assert_eq!(doubt.request_id.as_deref(), Some("08E2-268449538"));
}

#[tokio::test]
async fn an_answer_about_another_order_is_not_ours() {
    let answer = json!({"out_trade_no": "hf0002", "trade_state": "SUCCESS"}).to_string();
    let (_server, client) = serve(vec![Reply::signed(200, &answer)]);
    let doubt = client.query_order("hf0001").await.expect_err("mixed up");
    assert_eq!(doubt.class, Class::Unknown);
}

#[tokio::test]
async fn a_close_is_proved_by_204_alone() {
    let (_server, client) = serve(vec![Reply::signed(200, "{}"), Reply::plain(204, "")]);
    for _ in 0..2 {
        let doubt = client.close_order("hf0001").await.expect_err("no proof");
        assert_eq!(doubt.class, Class::Unknown);
    }
}

#[tokio::test]
async fn jsapi_orders_name_the_payer() {
    let answers = [r#"{"prepay_id":"wx201"}"#, r#"{"prepay_id":""}"#].map(|body| Reply::signed(200, body));
    let (server, client) = serve(answers.into());
    let prepay_id = client.create_jsapi_order(&ORDER, "openid-u").await.expect("an id");
    assert_eq!(client.jsapi_invocation(&prepay_id).package, "prepay_id=wx201");
    let body: Value = serde_json::from_slice(&server.seen()[0].body).expect("JSON");
    assert_eq!(body["payer"], json!({"openid": "openid-u"}));
    let doubt = client.create_jsapi_order(&ORDER, "openid-u").await.expect_err("signed, no id");
    assert_eq!(doubt.class, Class::Unknown);
}

#[tokio::test]
async fn a_refund_is_accepted_then_followed() {
    let answer = |status: &str| {
        json!({"refund_id": "50", "out_refund_no": "r1", "transaction_id": "42",
            "out_trade_no": "hf0001", "channel": "ORIGINAL", "status": status,
            "amount": {"total": 20000, "refund": 500, "currency": "CNY"}})
        .to_string()
    };
    let (server, client) =
        serve(vec![Reply::signed(200, &answer("PROCESSING")), Reply::signed(200, &answer("SUCCESS"))]);
    let refund =
        NewRefund {
            transaction_id: "42", out_refund_no: "r1", reason: "课程取消", refund_fen: 500, total_fen: 20_000
        };
    let accepted = client.create_refund(&refund).await.expect("accepted");
    assert_eq!(accepted.status, RefundStatus::Processing);
    let done = client.query_refund("r1").await.expect("done");
    assert_eq!(done.status, RefundStatus::Success);
    let seen = server.seen();
    let body: Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    assert_eq!(
        body,
        json!({"transaction_id": "42", "out_refund_no": "r1", "reason": "课程取消",
            "notify_url": "http://127.0.0.1:8080/v1/wechat/notify/refunds",
            "amount": {"refund": 500, "total": 20000, "currency": "CNY"}})
    );
    assert_eq!(seen[1].line, "GET /v3/refund/domestic/refunds/r1 HTTP/1.1");
    assert_signed("GET", "/v3/refund/domestic/refunds/r1", &seen[1]);
}

/// G3: WeChat counts a description's characters, and of a refund's reason the bytes.
#[tokio::test]
async fn a_long_text_is_cut_as_wechat_measures_it() {
    let refunded = json!({"refund_id": "50", "out_refund_no": "r1", "transaction_id": "42", "out_trade_no": "hf0001",
        "status": "PROCESSING", "amount": {"total": 20000, "refund": 500}})
    .to_string();
    let (server, client) =
        serve(vec![Reply::signed(200, CODE), Reply::signed(200, CODE), Reply::signed(200, &refunded)]);
    let title = "瑜".repeat(120);
    client.create_native_order(&NewOrder { description: &title, ..ORDER }).await.expect("a code");
    client.create_native_order(&NewOrder { description: &"瑜😀a".repeat(90), ..ORDER }).await.expect("a code");
    let reason = "课".repeat(60);
    let refund =
        NewRefund { transaction_id: "42", out_refund_no: "r1", reason: &reason, refund_fen: 500, total_fen: 20_000 };
    client.create_refund(&refund).await.expect("accepted");
    let sent = |place: usize, member: &str| {
        let body: Value = serde_json::from_slice(&server.seen()[place].body).expect("JSON");
        body[member].as_str().expect("text").to_owned()
    };
    assert_eq!(sent(0, "description"), title);
    assert_eq!(sent(1, "description").chars().count(), 127);
    assert_eq!(sent(2, "reason"), "课".repeat(26), "80 bytes");
}
