//! The protocol as the official clients speak it: spellings on the wire, every member of their requests, bills as
//! files, and the test callback.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wechat_sim::{KeyMode, Settings};

use crate::merchant::{KEYS, MCHID, Merchant, authorize};

const NATIVE: &str = "/v3/pay/transactions/native";
const JSAPI: &str = "/v3/pay/transactions/jsapi";
const ECHO: &str = "/v3/security/echo";

/// Sends one order over a bare connection with these further lines in its head, and reads all that comes back.
async fn bare_order(merchant: &Merchant, more: &str, authorization: &str, body: &str) -> String {
    let mut wire = TcpStream::connect(merchant.wechat.url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!(
        "POST {NATIVE} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUser-Agent: bare\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nAuthorization: {authorization}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    answer
}

const SEAL: [&str; 5] = ["Timestamp", "Nonce", "Signature", "Serial", "Signature-Type"];

/// G1: the official SDK for Java looks header names up in title case.
#[tokio::test]
async fn header_names_are_in_title_case_on_the_wire() {
    let merchant = Merchant::new().await;
    let body = merchant.native("hf000001").to_string();
    let authorization = authorize(&Method::POST, NATIVE, &body, OffsetDateTime::now_utc());
    let answer = bare_order(&merchant, "", &authorization, &body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for name in
        SEAL.map(|name| format!("\r\nWechatpay-{name}: ")).iter().map(String::as_str).chain(["\r\nContent-Type: "])
    {
        assert!(answer.contains(name), "{name} in {answer}");
    }

    let inbox = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut order = merchant.native("hf000002");
    order["notify_url"] = json!(format!("http://{}/notify", inbox.local_addr().unwrap()));
    assert_eq!(merchant.post(NATIVE, &order).await.status, 200);
    merchant.sim("/_sim/pay", &json!({"out_trade_no": "hf000002"})).await;
    let (mut wire, _) = inbox.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        wire.read_buf(&mut head).await.unwrap();
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    for name in SEAL {
        assert!(head.contains(&format!("\r\nWechatpay-{name}: ")), "{name} in {head}");
    }
}

/// G1: the SDK for Java sends an empty `Wechatpay-Serial` in certificate mode; serials are hexadecimal numbers.
#[tokio::test]
async fn an_empty_serial_and_a_lower_case_one_are_taken() {
    let settings = Settings { key_mode: KeyMode::Certificate, ..Settings::default() };
    for (merchant, signer) in [
        (Merchant::new().await, KEYS.public_key_id.clone()),
        (Merchant::with(settings).await, KEYS.platform_certificates[0].serial_no.clone()),
    ] {
        let body = merchant.native("hf000001").to_string();
        let authorization = authorize(&Method::POST, NATIVE, &body, OffsetDateTime::now_utc());
        let serial = &KEYS.merchant_serial_no;
        let lower = authorization.replace(serial, &serial.to_ascii_lowercase());
        assert_ne!(lower, authorization);
        for (more, authorization) in [("Wechatpay-Serial: \r\n", &authorization), ("", &lower)] {
            let answer = bare_order(&merchant, more, authorization, &body).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&signer), "{answer}");
        }
    }
}

/// G1: every member of the official SDKs' requests.
#[tokio::test]
async fn every_member_that_the_official_clients_can_send_is_taken() {
    let merchant = Merchant::new().await;
    let mut order = merchant.native("hf000001");
    let more = json!({
        "time_expire": (OffsetDateTime::now_utc() + time::Duration::hours(1))
            .replace_nanosecond(0).unwrap()
            .format(&time::format_description::well_known::Rfc3339).unwrap(),
        "attach": "自定义数据", "goods_tag": "WXG", "support_fapiao": false,
        "limit_pay": ["no_balance", "no_credit", "no_debit", "balance_only"],
        "amount": {"total": 20000, "currency": "CNY"},
        "detail": {"cost_price": 20000, "invoice_id": "wx123", "goods_detail": [{
            "merchant_goods_id": "1246464644", "wechatpay_goods_id": "1001", "goods_name": "陶艺课", "quantity": 1,
            "unit_price": 20000,
        }]},
        "scene_info": {"payer_client_ip": "14.23.150.211", "device_id": "013467007045764", "store_info": {
            "id": "0001", "name": "某工作室", "area_code": "440305", "address": "某路10000号",
        }},
        "settle_info": {"profit_sharing": false},
    });
    for (member, value) in more.as_object().unwrap() {
        order[member] = value.clone();
    }
    assert_eq!(merchant.post(NATIVE, &order).await.status, 200);
    let mut jsapi = order.clone();
    jsapi["out_trade_no"] = json!("hf000002");
    jsapi["payer"] = json!({"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"});
    assert_eq!(merchant.post(JSAPI, &jsapi).await.status, 200);

    order["limit_pay"] = json!(["no_money"]);
    assert_eq!(merchant.post(NATIVE, &order).await.json()["detail"]["field"], "/limit_pay");
    order["limit_pay"] = json!("no_credit");
    assert_eq!(merchant.post(NATIVE, &order).await.error(), (400, "PARAM_ERROR".into()));

    merchant.paid("hf000003").await;
    let refund = json!({
        "sub_mchid": MCHID, "out_trade_no": "hf000003", "out_refund_no": "rf@0|3*", "reason": "商品已售完",
        "notify_url": merchant.notify_url, "funds_account": "AVAILABLE",
        "amount": {
            "refund": 100, "total": 20000, "currency": "CNY", "from": [{"account": "AVAILABLE", "amount": 100}],
        },
        "goods_detail": [{
            "merchant_goods_id": "1217752501201407033233368018", "wechatpay_goods_id": "1001",
            "goods_name": "陶艺课", "unit_price": 20000, "refund_amount": 100, "refund_quantity": 1,
        }],
    });
    assert_eq!(merchant.post("/v3/refund/domestic/refunds", &refund).await.status, 200);
}

/// G3: a description has up to 127 characters, not bytes.
#[tokio::test]
async fn a_description_is_measured_in_characters() {
    let merchant = Merchant::new().await;
    let mut order = merchant.native("hf000001");
    order["description"] = json!("课".repeat(128));
    assert_eq!(merchant.post(NATIVE, &order).await.json()["detail"]["field"], "/description");
    order["description"] = json!("课".repeat(127));
    assert_eq!(merchant.post(NATIVE, &order).await.status, 200);
}

/// G1: a bill is `text/plain`, a packed one `application/x-gzip`.
#[tokio::test]
async fn a_bill_tells_what_kind_of_file_it_is() {
    let merchant = Merchant::new().await;
    merchant.paid("hf000001").await;
    let (_, closed) = merchant.sim("/_sim/bill", &json!({})).await;
    let date = closed["bill_date"].as_str().unwrap();
    for (packing, media_type) in [("", "text/plain"), ("&tar_type=GZIP", "application/x-gzip")] {
        let ready = merchant.get(&format!("/v3/bill/tradebill?bill_date={date}{packing}")).await.json();
        let url = ready["download_url"].as_str().unwrap();
        let file = merchant.get(&url[url.find("/v3/").unwrap()..]).await;
        assert_eq!(file.headers["content-type"], media_type);
    }
}

/// G1: an order inside WeChat is for a customer of this appid.
#[tokio::test]
async fn an_openid_that_is_no_customers_gets_no_prepay_id() {
    let merchant = Merchant::new().await;
    let mut order = merchant.native("hf000001");
    for (openid, issue) in [
        ("nobody", "无效的openid"),
        ("o", "无效的openid"),
        ("o no such one", "无效的openid"),
        ("openid-nonexistent", "无效的openid"),
        ("openid-of-another-appid", "appid和openid不匹配"),
    ] {
        order["payer"] = json!({"openid": openid});
        let answer = merchant.post(JSAPI, &order).await;
        assert_eq!(answer.error(), (400, "PARAM_ERROR".into()), "{openid}");
        assert_eq!(answer.json()["detail"]["issue"], issue, "{openid}");
    }
    assert!(merchant.ledger().await["orders"].as_array().unwrap().is_empty());
}

/// G2: WeChat closes a connection on which nothing is asked.
#[tokio::test]
async fn an_idle_connection_is_closed() {
    assert_eq!(Settings::default().idle_close, Duration::from_secs(8));
    let settings = Settings { idle_close: Duration::from_millis(100), ..Settings::default() };
    let merchant = Merchant::with(settings).await;
    let mut wire = TcpStream::connect(merchant.wechat.url.strip_prefix("http://").unwrap()).await.unwrap();
    wire.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("Connection: close"), "{answer}");
}

/// G5: the test callback is sealed under the APIv3 key, so that it proves it.
#[tokio::test]
async fn an_echo_comes_back_and_as_a_sealed_callback() {
    let mut merchant = Merchant::new().await;
    let asked = json!({"echo_message": "hello", "notify_url": merchant.notify_url});
    let nameless = merchant.post(ECHO, &asked).await;
    assert_eq!(nameless.error(), (400, "PARAM_ERROR".into()));
    assert_eq!(nameless.json()["detail"]["field"], "Wechatpay-Serial");

    merchant.asks_for = Some(KEYS.public_key_id.clone());
    assert_eq!(merchant.post(ECHO, &json!({})).await.error(), (400, "PARAM_ERROR".into()));
    let answer = merchant.post(ECHO, &asked).await;
    assert!(answer.is_genuine());
    assert_eq!(answer.json(), json!({"echo_message": "hello"}));
    let callback = merchant.callback().await;
    assert!(callback.is_genuine());
    let envelope = callback.envelope();
    assert_eq!(envelope["event_type"], "SECURITY_ECHO.SUCCESS");
    assert_eq!(
        (&envelope["resource"]["original_type"], &envelope["resource"]["associated_data"]),
        (&json!("security"), &json!(""))
    );
    assert_eq!(callback.opened()["echo_message"], "hello");

    // Two echoes of the same text are two callbacks, and the script can touch them.
    merchant.script(json!([{"on": "callback_echo", "callback": "wrong_signature"}])).await;
    merchant.post(ECHO, &asked).await;
    let forged = merchant.callback().await;
    assert!(!forged.is_genuine() && forged.envelope()["id"] != envelope["id"]);
    merchant.script(json!([{"on": "echo", "status": 403, "code": "NO_AUTH"}])).await;
    assert_eq!(merchant.post(ECHO, &asked).await.error(), (403, "NO_AUTH".into()));
}
