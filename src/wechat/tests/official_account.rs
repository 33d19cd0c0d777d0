//! The Official Account: each errcode's reaction, values brought to their rules, lost answers.

use super::support::{Reply, Server, at};
use crate::domain::notification::Kind;
use crate::wechat::official_account::{AccessToken, OfficialAccountClient, Sending, TemplateMessage};
use crate::wechat::reaction::Reaction;
use crate::wechat::settings::{OfficialAccountSettings, Templates};
use crate::wechat::template::{amount_value, fit, time_value};
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn settings(base_url: &str) -> OfficialAccountSettings {
    OfficialAccountSettings {
        base_url: Some(base_url.to_owned()),
        appid: Some("wx8888888888888888".to_owned()),
        secret: Some(SecretString::from("account-secret")),
        templates: Templates { booking_confirmed: Some("T1".to_owned()), ..Templates::default() },
        ..OfficialAccountSettings::default()
    }
}

fn serve(replies: Vec<Reply>) -> (Server, OfficialAccountClient) {
    let server = Server::start(replies);
    let account = settings(&server.url).load().expect("good settings");
    (server, OfficialAccountClient::new(account).expect("a client"))
}

async fn send(client: &OfficialAccountClient) -> Sending {
    let message = TemplateMessage {
        touser: "o-secret",
        template_id: "T1",
        url: None,
        data: BTreeMap::from([("thing1", "晨".repeat(21)), ("amount2", amount_value(20_000))]),
        client_msg_id: "hf0001-confirmed",
    };
    client.send_template(&SecretString::from("a token&more"), &message).await
}

#[test]
fn s2_1_an_empty_official_account_lists_all_that_is_missing() {
    let problems: Vec<_> = OfficialAccountSettings::default().problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "official_account.base_url is missing",
            "official_account.appid is missing",
            "official_account.secret is missing (or secret_file)",
            "official_account.templates names no template, so nothing can be sent",
        ]
    );
}

#[test]
fn s4_3_a_template_may_have_keys_of_its_own() {
    let of = |text: &str| Templates { refunded: Some(text.to_owned()), ..Templates::default() };
    let templates = of("T7  thing1=thing4 amount4=amount12");
    let template = templates.of(Kind::Refunded).expect("a template");
    assert_eq!(template.id, "T7");
    let keys = ["thing1", "amount4", "character_string5"].map(|key| template.key(key));
    assert_eq!(keys, ["thing4", "amount12", "character_string5"]);
    for wrong in ["", "thing1=thing4", "T7 thing1", "T7 thing1=", "T7 thing3=thing4", "T7 thing1=课程"] {
        let settings = OfficialAccountSettings { templates: of(wrong), ..settings("https://api.weixin.qq.com") };
        let problems: Vec<_> = settings.problems().iter().map(|problem| problem.setting.clone()).collect();
        assert_eq!(problems, ["official_account.templates.refunded"], "{wrong:?}");
    }
}

#[tokio::test]
async fn s4_3_a_message_goes_out_with_values_that_fit() {
    let ok = r#"{"errcode":0,"errmsg":"ok","msgid":3999999999999999999}"#;
    let (server, client) = serve(vec![Reply::plain(200, ok)]);
    let sent = send(&client).await;
    assert_eq!(sent, Sending::Sent { msgid: Some(3_999_999_999_999_999_999) });
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /cgi-bin/message/template/send?access_token=a+token%26more HTTP/1.1");
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    assert_eq!(
        body,
        json!({"touser": "o-secret", "template_id": "T1", "client_msg_id": "hf0001-confirmed",
            "data": {"thing1": {"value": format!("{}…", "晨".repeat(19))},
                "amount2": {"value": "200.00元"}}})
    );
}

#[tokio::test]
async fn every_errcode_has_its_reaction() {
    use Reaction::{Drop, FixAndStop, FixMessage, PauseUntilTomorrow, RefreshToken, RetryBounded, RetryLater};
    for (errcodes, expected) in [
        (&[-1, 45011][..], RetryLater),
        (&[40001, 40014, 42001], RefreshToken),
        (&[40003, 43004, 43019, 43101], Drop),
        (&[41001, 40013, 40125, 40164, 48001, 48002, 50002], FixAndStop),
        (&[40037, 44002, 47001, 47003], FixMessage),
        (&[45009], PauseUntilTomorrow),
        (&[1, 99_999], RetryBounded),
    ] {
        for errcode in errcodes {
            let body = json!({"errcode": errcode, "errmsg": "words rid: 6"}).to_string();
            let (_server, client) = serve(vec![Reply::plain(200, &body)]);
            let sending = send(&client).await;
            assert_eq!(
                sending,
                Sending::Refused { errcode: *errcode, reaction: expected, detail: "words rid: 6".to_owned() }
            );
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_neither_sent_nor_refused() {
    for reply in [Reply::Nothing, Reply::plain(502, "<html>"), Reply::plain(200, "<html>"), Reply::plain(200, "{}")] {
        let (_server, client) = serve(vec![reply]);
        let sending = send(&client).await;
        let text = format!("{sending:?}");
        assert!(matches!(sending, Sending::Unknown { .. }), "{text}");
        assert!(!text.contains("token"), "{text}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_and_its_refusals_are_told() {
    let good = r#"{"access_token":"T","expires_in":7200}"#;
    let refused = r#"{"errcode":40001,"errmsg":"invalid credential"}"#;
    let busy = r#"{"errcode":-1,"errmsg":"system error"}"#;
    let (server, client) =
        serve(vec![Reply::plain(200, good), Reply::plain(200, refused), Reply::plain(200, busy), Reply::Nothing]);
    let token = client.stable_token(false).await.expect("a token");
    assert_eq!((token.token.expose_secret(), token.expires_in.as_secs()), ("T", 7_200));
    for expected in
        [(Some(40001), Reaction::FixAndStop), (Some(-1), Reaction::RetryLater), (None, Reaction::RetryLater)]
    {
        let fault = client.stable_token(true).await.expect_err("no token");
        assert_eq!((fault.errcode, fault.reaction), expected);
        assert!(!format!("{fault:?}{client:?}").contains("account-secret"));
    }
    let body: Value = serde_json::from_slice(&server.seen()[0].body).expect("JSON");
    assert_eq!(
        body,
        json!({"grant_type": "client_credential", "appid": "wx8888888888888888",
            "secret": "account-secret", "force_refresh": false})
    );
}

#[test]
fn values_are_brought_to_their_keys_rule() {
    for (key, value, expected) in [
        ("thing1", "瑜伽", "瑜伽"),
        ("thing1", "", "无"),
        ("thing1", "line\nbreak", "line break"),
        ("thing12", "一二三四五六七八九十一二三四五六七八九十", "一二三四五六七八九十一二三四五六七八九十"),
        ("thing12", "一二三四五六七八九十一二三四五六七八九十!", "一二三四五六七八九十一二三四五六七八九…"),
        ("short_thing1", "一二三四五六", "一二三四…"),
        ("name1", "Maximiliane Mustermann", "Maximiliane Musterm…"),
        ("name1", "欧阳一二三四五六七八九", "欧阳一二三四五六七…"),
        ("phrase1", "已确认ok！", "已确认"),
        ("phrase1", "ok", "无"),
        ("number1", "no. 12.50.3", "12.503"),
        ("number1", "7.", "7"),
        ("amount1", "¥200.00", "¥200.00"),
        ("amount1", "200.00元", "200.00元"),
        ("amount1", "12345678901", "1234567890"),
        ("letter1", "a1b2", "ab"),
        ("symbol1", "a+-*/=%", "+-*/="),
        ("character_string1", "hf0001 座", "hf0001"),
        ("phone_number1", "+86 138-0013-8000", "+86138-0013-8000"),
        ("car_number1", "京A·12345", "京A12345"),
        ("time1", "2025年11月25日 09:30", "2025年11月25日 09:30"),
        ("keyword1", " as it is ", "as it is"),
    ] {
        assert_eq!(fit(key, value), expected, "{key} {value}");
    }
    assert_eq!(time_value(at(1_764_000_000)), "2025年11月25日 0:00".replace(" 0:", " 00:"));
    assert_eq!(amount_value(5), "0.05元");
}

proptest! {
    #[test]
    fn no_value_breaks_its_rule(value in "\\PC{0,80}") {
        let length = |key: &str| fit(key, &value).chars().count();
        for (key, max) in [
            ("thing1", 20), ("short_thing1", 5), ("name1", 20), ("phrase1", 5), ("number1", 32),
            ("letter1", 32), ("symbol1", 5), ("character_string1", 32), ("phone_number1", 17),
            ("car_number1", 8), ("amount1", 13),
        ] {
            prop_assert!(length(key) <= max, "{key} {:?}", fit(key, &value));
            prop_assert_eq!(fit(key, &fit(key, &value)), fit(key, &value));
        }
        prop_assert!(!fit("thing1", &value).is_empty());
    }
}

#[test]
fn a_token_lives_two_hours_whatever_its_answer_claims_and_an_empty_one_is_none() {
    let for_ever = AccessToken::of_answer(200, br#"{"access_token":"T","expires_in":18446744073709551615}"#);
    assert_eq!(for_ever.expect("a token").expires_in.as_secs(), 7_200);
    for answer in [r#"{"access_token":"","expires_in":7200}"#, r#"{"errcode":0}"#, "{}"] {
        assert_eq!(AccessToken::of_answer(200, answer.as_bytes()).expect_err("no token").errcode, None);
    }
}
