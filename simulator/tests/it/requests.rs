//! What is let in: the Authorization, the basic rules, every field.

use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::merchant::{Answer, KEYS, MCHID, Merchant, authorize, sign};

const NATIVE: &str = "/v3/pay/transactions/native";

/// Sends a query with this Authorization.
async fn query_with(merchant: &Merchant, target: &str, authorization: &str) -> Answer {
    let request = merchant
        .http
        .get(format!("{}{target}", merchant.wechat.url))
        .header("Accept", "application/json")
        .header("Authorization", authorization);
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

fn target() -> String {
    format!("/v3/pay/transactions/out-trade-no/hf000001?mchid={MCHID}")
}

#[tokio::test]
async fn the_five_parts_may_come_in_any_order() {
    let merchant = Merchant::new().await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let signature = sign(&format!("GET\n{}\n{now}\nabc\n\n", target()));
    let serial = &KEYS.merchant_serial_no;
    let shuffled = format!(
        "WECHATPAY2-SHA256-RSA2048 signature=\"{signature}\",timestamp=\"{now}\", serial_no=\"{serial}\",\
         nonce_str=\"abc\",mchid=\"{MCHID}\""
    );
    assert_eq!(query_with(&merchant, &target(), &shuffled).await.error(), (404, "ORDER_NOT_EXIST".into()));
}

#[tokio::test]
async fn a_request_that_proves_nothing_is_401() {
    let merchant = Merchant::new().await;
    let now = OffsetDateTime::now_utc();
    let good = authorize(&Method::GET, &target(), "", now);
    let other_target = target().replace("hf000001", "hf000002");
    let without_query = target().split_once('?').unwrap().0.to_owned();
    let cases = [
        ("empty", String::new()),
        ("another scheme", good.replace("WECHATPAY2-SHA256-RSA2048", "Bearer")),
        ("a part missing", good.replace(&format!("mchid=\"{MCHID}\","), "")),
        ("a part twice", good.replace("mchid=", &format!("mchid=\"{MCHID}\",mchid="))),
        ("an unknown part", good.replace("mchid=", "sub_mchid=\"1\",mchid=")),
        ("no quotes", good.replace('"', "")),
        ("another merchant", good.replace(MCHID, "1900000999")),
        ("another serial", good.replace(&KEYS.merchant_serial_no, &"A".repeat(40))),
        ("another path signed", authorize(&Method::GET, &other_target, "", now)),
        ("query not signed", authorize(&Method::GET, &without_query, "", now)),
        ("another method signed", authorize(&Method::POST, &target(), "", now)),
        ("a body signed", authorize(&Method::GET, &target(), "{}", now)),
        ("too old", authorize(&Method::GET, &target(), "", now - Duration::seconds(310))),
        ("too new", authorize(&Method::GET, &target(), "", now + Duration::seconds(310))),
        ("not base64", good.replace("signature=\"", "signature=\"!")),
    ];
    for (case, authorization) in cases {
        let answer = query_with(&merchant, &target(), &authorization).await;
        assert_eq!(answer.error(), (401, "SIGN_ERROR".into()), "{case}");
        assert!(answer.headers["Request-ID"].to_str().unwrap().ends_with("-268443699"));
    }
    let late = authorize(&Method::GET, &target(), "", now - Duration::seconds(290));
    assert_eq!(query_with(&merchant, &target(), &late).await.status, 404, "inside the window");
}

#[tokio::test]
async fn the_basic_rules_hold() {
    let merchant = Merchant::new().await;
    let body = merchant.native("hf000001").to_string();
    let post = |client: &reqwest::Client| {
        client
            .post(format!("{}{NATIVE}", merchant.wechat.url))
            .header("Authorization", authorize(&Method::POST, NATIVE, &body, OffsetDateTime::now_utc()))
            .body(body.clone())
    };
    let nameless = reqwest::Client::builder().no_proxy().build().unwrap();
    let json = "application/json";
    let cases = [
        (403, post(&nameless).header("Accept", json).header("Content-Type", json)),
        (406, post(&merchant.http).header("Accept", "text/html").header("Content-Type", json)),
        (415, post(&merchant.http).header("Accept", json).header("Content-Type", "text/plain")),
        (415, post(&merchant.http).header("Accept", json)),
    ];
    for (status, request) in cases {
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    let reformatted = body.replace("\":", "\": ");
    let changed = post(&merchant.http).header("Accept", json).header("Content-Type", json).body(reformatted);
    assert_eq!(changed.send().await.unwrap().status(), 401, "the signature is over the bytes");
}

#[tokio::test]
async fn every_field_of_an_order_is_checked() {
    let merchant = Merchant::new().await;
    let cases: [(&str, Value); 24] = [
        ("/appid", Value::Null),
        ("/mchid", json!(1_900_000_109)),
        ("/mchid", json!("1900000999")),
        ("/description", json!("")),
        ("/description", json!("课".repeat(128))),
        ("/description", json!("陶艺课🏺")),
        ("/description", Value::Null),
        ("/out_trade_no", json!("hf01")),
        ("/out_trade_no", json!("h".repeat(33))),
        ("/out_trade_no", json!("hf 00001")),
        ("/out_trade_no", json!("hf/00001")),
        ("/time_expire", json!("2030-01-01 00:00:00")),
        ("/attach", json!("a".repeat(129))),
        ("/notify_url", json!("/notify")),
        ("/notify_url", json!("https://example.com")),
        ("/notify_url", json!("https://example.com/notify?a=b")),
        ("/notify_url", json!(format!("https://example.com/{}", "a".repeat(255)))),
        ("/amount/total", json!(0)),
        ("/amount/total", json!(200.0)),
        ("/amount/total", json!("200")),
        ("/amount/currency", json!("USD")),
        ("/amount/fen", json!(1)),
        ("/mch_id", json!(MCHID)),
        ("/support_fapiao", json!("true")),
    ];
    for (at, value) in cases {
        let mut order = merchant.native("hf000001");
        let (parent, name) = at.rsplit_once('/').unwrap();
        order.pointer_mut(parent).unwrap()[name] = value.clone();
        let answer = merchant.post(NATIVE, &order).await;
        assert_eq!(answer.error(), (400, "PARAM_ERROR".into()), "{at} = {value}");
        assert_eq!(answer.json()["detail"]["field"], at);
    }
    for member in ["appid", "mchid", "description", "out_trade_no", "notify_url", "amount"] {
        let mut order = merchant.native("hf000001");
        order.as_object_mut().unwrap().remove(member);
        assert_eq!(merchant.post(NATIVE, &order).await.error(), (400, "PARAM_ERROR".into()), "{member}");
    }
    for body in ["", "[]", "null", "{", "\u{feff}{}"] {
        let answer = merchant.send(Method::POST, NATIVE, body.to_owned()).await.unwrap();
        assert_eq!(answer.error(), (400, "PARAM_ERROR".into()), "{body:?}");
    }
    let mut order = merchant.native("hf000001");
    order["appid"] = json!("wx0000000000000000");
    assert_eq!(merchant.post(NATIVE, &order).await.error(), (400, "APPID_MCHID_NOT_MATCH".into()));
    let mut order = merchant.native("hf000001");
    order["detail"] = json!({"goods_detail": [{"merchant_goods_id": "1", "quantity": 1, "unit_price": 1, "x": 1}]});
    assert_eq!(merchant.post(NATIVE, &order).await.json()["detail"]["field"], "/detail/goods_detail/0/x");
    let goods = json!({"merchant_goods_id": "1", "goods_name": "名".repeat(80), "quantity": 1, "unit_price": 1});
    order["detail"] = json!({"goods_detail": vec![goods; 30]});
    assert_eq!(merchant.post(NATIVE, &order).await.json()["detail"]["field"], "/detail");

    let jsapi = merchant.post("/v3/pay/transactions/jsapi", &merchant.native("hf000001")).await;
    assert_eq!(jsapi.error(), (400, "PARAM_ERROR".into()), "without a payer");
    assert!(merchant.ledger().await["orders"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_wrong_merchant_is_told_so() {
    let merchant = Merchant::new().await;
    merchant.ordered("hf000001").await;
    let path = "/v3/pay/transactions/out-trade-no/hf000001";
    let without = merchant.get(path).await;
    assert_eq!(without.error(), (400, "PARAM_ERROR".into()));
    assert_eq!(without.json()["detail"]["location"], "uri_template");
    assert_eq!(merchant.get(&format!("{path}?mchid=1")).await.error(), (400, "PARAM_ERROR".into()));
    let close = format!("{path}/close");
    for body in [json!({"mch_id": MCHID}), json!({"mchid": MCHID, "reason": "x"}), json!({"mchid": "1"}), json!({})] {
        assert_eq!(merchant.post(&close, &body).await.error(), (400, "PARAM_ERROR".into()), "{body}");
    }
}

#[tokio::test]
async fn an_encoded_number_is_signed_as_it_was_sent() {
    let merchant = Merchant::new().await;
    merchant.ordered("hf|0*01").await;
    assert_eq!(merchant.query("hf%7C0%2A01").await.json()["out_trade_no"], "hf|0*01");
}
