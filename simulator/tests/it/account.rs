//! The Official Account: tokens, template messages, errcodes.

use serde_json::{Value, json};

use crate::merchant::{APPID, Merchant};

async fn token(merchant: &Merchant, force: bool) -> Value {
    let asked = json!({
        "grant_type": "client_credential", "appid": APPID,
        "secret": "wechat-sim-official-account-secret", "force_refresh": force,
    });
    merchant.sim("/cgi-bin/stable_token", &asked).await.1
}

async fn access_token(merchant: &Merchant) -> String {
    token(merchant, false).await["access_token"].as_str().unwrap().to_owned()
}

fn message() -> Value {
    json!({
        "touser": "oFollower", "template_id": "any", "client_msg_id": "hf000001.confirmed",
        "data": {"thing1": {"value": "陶艺课"}, "amount2": {"value": "¥200.00"}, "time3": {"value": "2026年10月1日 10:00"}},
    })
}

async fn send(merchant: &Merchant, token: &str, message: &Value) -> Value {
    let (status, answer) = merchant.sim(&format!("/cgi-bin/message/template/send?access_token={token}"), message).await;
    assert_eq!(status, 200);
    answer
}

#[tokio::test]
async fn a_stable_token_stays_and_its_successor_overlaps() {
    let merchant = Merchant::new().await;
    let first = token(&merchant, false).await;
    assert_eq!(first["expires_in"], 7200);
    let again = token(&merchant, false).await;
    assert_eq!(again["access_token"], first["access_token"]);

    merchant.sim("/_sim/clock", &json!({"advance_seconds": 7000})).await;
    let first = first["access_token"].as_str().unwrap();
    let second = access_token(&merchant).await;
    assert_ne!(first, second);
    assert_eq!(send(&merchant, first, &message()).await["errcode"], 0, "the old one still lives");
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 300})).await;
    assert_eq!(send(&merchant, first, &message()).await["errcode"], 42001);

    let forced = token(&merchant, true).await;
    assert_eq!(send(&merchant, &second, &message()).await["errcode"], 42001, "force kills at once");
    assert_eq!(token(&merchant, true).await["access_token"], forced["access_token"], "not twice in 30 s");
}

#[tokio::test]
async fn credentials_and_tokens_are_checked() {
    let merchant = Merchant::new().await;
    let asked = json!({"grant_type": "client_credential", "appid": APPID, "secret": "x"});
    assert_eq!(merchant.sim("/cgi-bin/stable_token", &asked).await.1["errcode"], 40125);
    let asked = json!({"grant_type": "client_credential", "appid": "x", "secret": "x"});
    assert_eq!(merchant.sim("/cgi-bin/stable_token", &asked).await.1["errcode"], 40013);
    assert_eq!(send(&merchant, "", &message()).await["errcode"], 41001);
    let answer = send(&merchant, "nonsense", &message()).await;
    assert_eq!(answer["errcode"], 40001);
    assert!(answer["errmsg"].as_str().unwrap().contains(" rid: "));

    let url = format!(
        "{}/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret=wechat-sim-official-account-secret",
        merchant.wechat.url
    );
    let mut classic = Vec::new();
    for _ in 0..2 {
        let answer: Value = merchant.http.get(&url).send().await.unwrap().json().await.unwrap();
        classic.push(answer["access_token"].as_str().unwrap().to_owned());
    }
    assert_ne!(classic[0], classic[1]);
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 300})).await;
    assert_eq!(send(&merchant, &classic[0], &message()).await["errcode"], 42001);
    assert_eq!(send(&merchant, &classic[1], &message()).await["errcode"], 0);
}

#[tokio::test]
async fn a_message_with_an_id_is_sent_once_in_ten_minutes() {
    let merchant = Merchant::new().await;
    let token = access_token(&merchant).await;
    let first = send(&merchant, &token, &message()).await;
    assert_eq!(first["errcode"], 0);
    assert!(first["msgid"].as_u64().unwrap() > u64::from(u32::MAX));
    assert_eq!(send(&merchant, &token, &message()).await, first);
    let mut other = message();
    other["touser"] = json!("oOther");
    assert_ne!(send(&merchant, &token, &other).await["msgid"], first["msgid"]);
    assert_eq!(merchant.ledger().await["messages"].as_array().unwrap().len(), 2);
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 600})).await;
    assert_ne!(send(&merchant, &token, &message()).await["msgid"], first["msgid"]);
}

#[tokio::test]
async fn wrong_messages_get_their_errcode() {
    let settings = wechat_sim::Settings { templates: vec!["any".into()], ..wechat_sim::Settings::default() };
    let merchant = Merchant::with(settings).await;
    let token = access_token(&merchant).await;
    for (at, value, errcode) in [
        ("/touser", json!("not an openid"), 40003),
        ("/touser", json!("o".repeat(129)), 40003),
        ("/touser", json!("oUser-unfollowed"), 43004),
        ("/template_id", json!("other"), 40037),
        ("/data", json!({}), 47003),
        ("/data/thing1/value", json!("陶".repeat(21)), 47003),
        ("/data/thing1/value", json!(""), 47003),
        ("/data/thing1/value", json!(20), 47003),
        ("/data/amount2/value", json!("二百元"), 47003),
        ("/data/amount2/value", json!("12345678901"), 47003),
        ("/data/time3/value", json!("tomorrow"), 47003),
        ("/data/phrase4", json!({"value": "已经确认成功"}), 47003),
        ("/data/phrase4", json!({"value": "ok"}), 47003),
        ("/data/character_string5", json!({"value": "订单一"}), 47003),
        ("/data/number6", json!({"value": "one"}), 47003),
        ("/data/name7", json!({"value": "名".repeat(11)}), 47003),
        ("/data/letter8", json!({"value": "abc1"}), 47003),
        ("/data/nonsense", json!({"value": "x"}), 47003),
    ] {
        let mut wrong = message();
        let (parent, name) = at.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[name] = value.clone();
        assert_eq!(send(&merchant, &token, &wrong).await["errcode"], errcode, "{at} = {value}");
    }
    let url = format!("{}/cgi-bin/message/template/send?access_token={token}", merchant.wechat.url);
    for (body, errcode) in [("", 44002), ("{", 47001), ("[]", 47001)] {
        let answer: Value = merchant.http.post(&url).body(body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["errcode"], errcode, "{body:?}");
    }
    assert!(merchant.ledger().await["messages"].as_array().unwrap().is_empty());
    let mut right = message();
    for (key, value) in [
        ("phrase4", "已确认"),
        ("character_string5", "hf-000001"),
        ("number6", "12"),
        ("name7", "张三"),
        ("date8", "2026-10-01~2026-10-02"),
        ("amount9", "200元"),
        ("phone_number10", "+86 13800000000"),
        ("const11", "成功"),
    ] {
        right["data"][key] = json!({"value": value});
    }
    assert_eq!(send(&merchant, &token, &right).await["errcode"], 0);
}
