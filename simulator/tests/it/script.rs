//! The script: what goes wrong, how often, and that it does so twice alike.

use reqwest::Method;
use serde_json::{Value, json};

use crate::merchant::{APPID, Answer, Merchant};

const NATIVE: &str = "/v3/pay/transactions/native";

#[tokio::test]
async fn an_answer_can_be_lost_after_the_deed() {
    let merchant = Merchant::new().await;
    merchant
        .script(json!([
            {"on": "order", "order": "hf-dropped", "answer_lost": true},
            {"on": "order", "order": "hf-error", "answer_lost": "error"},
            {"on": "template_send", "answer_lost": "dropped"},
        ]))
        .await;
    let body = merchant.native("hf-dropped").to_string();
    let lost = merchant.send(Method::POST, NATIVE, body).await.unwrap_err();
    assert!(lost.is_request() && lost.status().is_none(), "{lost:?}");
    assert_eq!(merchant.post(NATIVE, &merchant.native("hf-error")).await.error(), (500, "SYSTEM_ERROR".into()));
    for number in ["hf-dropped", "hf-error"] {
        assert_eq!(merchant.query(number).await.json()["trade_state"], "NOTPAY", "the deed was done");
    }
}

#[tokio::test]
async fn a_deed_can_be_refused_and_an_answer_forged() {
    let merchant = Merchant::new().await;
    merchant
        .script(json!([
            {"on": "order", "status": 500, "count": 1},
            {"on": "order", "status": 502, "html": true, "count": 2},
            {"on": "order", "status": 429, "count": 3},
            {"on": "close", "status": 403, "code": "RULE_LIMIT", "message": "业务规则限制"},
        ]))
        .await;
    // Rules with a count keep counting while an earlier rule has the word.
    assert_eq!(merchant.post(NATIVE, &merchant.native("hf000001")).await.error(), (500, "SYSTEM_ERROR".into()));
    let html = merchant.post(NATIVE, &merchant.native("hf000001")).await;
    assert_eq!((html.status, html.body.starts_with(b"<html>")), (502, true));
    let busy = merchant.post(NATIVE, &merchant.native("hf000001")).await;
    assert_eq!(busy.error(), (429, "FREQUENCY_LIMITED".into()));
    assert_eq!(merchant.close("hf000001").await.error(), (403, "RULE_LIMIT".into()));
    assert!(merchant.ledger().await["orders"].as_array().unwrap().is_empty());

    for forgery in ["signtest", "wrong_signature", "wrong_key", "replayed"] {
        merchant.script(json!([{"on": "order", forgery: true, "count": 1}])).await;
        let forged = merchant.post(NATIVE, &merchant.native("hf000001")).await;
        assert_eq!(forged.status, 200);
        assert!(!forged.is_genuine(), "{forgery}");
        assert!(merchant.post(NATIVE, &merchant.native("hf000001")).await.is_genuine());
    }
}

#[tokio::test]
async fn an_answer_can_say_a_word_that_nobody_knows() {
    let merchant = Merchant::new().await;
    merchant.ordered("hf000001").await;
    merchant.script(json!([{"on": "query", "state": "DEFERRED", "count": 1}])).await;
    let answer = merchant.query("hf000001").await;
    assert!(answer.is_genuine());
    assert_eq!(answer.json()["trade_state"], "DEFERRED");
    assert_eq!(merchant.query("hf000001").await.json()["trade_state"], "NOTPAY", "nothing came of it");
}

#[tokio::test]
async fn haste_is_refused_and_a_refusal_can_lie() {
    let merchant = Merchant::new().await;
    merchant
        .script(json!([{"on": "query", "beyond_per_second": 5, "status": 429, "code": "RATELIMIT_EXCEEDED"}]))
        .await;
    merchant.ordered("hf000001").await;
    let hasty = async || {
        let mut answers = Vec::new();
        for _ in 0..8 {
            answers.push(merchant.query("hf000001").await);
        }
        answers
    };
    let answers = hasty().await;
    assert!(answers[..5].iter().all(Answer::is_genuine), "so many a second are welcome");
    let refused = answers.iter().filter(|answer| answer.status == 429).collect::<Vec<_>>();
    assert_eq!(refused[0].error(), (429, "RATELIMIT_EXCEEDED".into()));
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 1})).await;
    assert_eq!(merchant.query("hf000001").await.status, 200, "a second later all is forgotten");

    merchant.script(json!([{"on": "order", "answer_lost": "error", "status": 429}])).await;
    let answer = merchant.post(NATIVE, &merchant.native("hf000002")).await;
    assert_eq!(answer.error(), (429, "FREQUENCY_LIMITED".into()));
    merchant.script(json!([])).await;
    assert_eq!(merchant.query("hf000002").await.json()["trade_state"], "NOTPAY", "it was accepted all the same");
}

#[tokio::test]
async fn the_stamping_clock_can_be_wrong() {
    let mut merchant = Merchant::new().await;
    for skew in [600, -600] {
        merchant.sim("/_sim/clock", &json!({"skew_seconds": skew})).await;
        assert_eq!(merchant.query("hf000001").await.error(), (401, "SIGN_ERROR".into()), "we are early or late to it");
    }
    merchant.sim("/_sim/clock", &json!({"skew_seconds": 0})).await;
    merchant.ordered("hf000001").await;
    merchant.sim("/_sim/clock", &json!({"skew_seconds": -600})).await;
    merchant.answers.lock().unwrap().push(axum::http::StatusCode::UNAUTHORIZED);
    merchant.sim("/_sim/pay", &json!({"out_trade_no": "hf000001"})).await;
    assert!(!merchant.callback().await.is_genuine(), "stamped ten minutes ago");
    merchant.sim("/_sim/clock", &json!({"skew_seconds": 0})).await;
    assert!(merchant.callback().await.is_genuine(), "the resend is stamped rightly");
}

#[tokio::test]
async fn an_answer_can_wait() {
    let merchant = Merchant::new().await;
    merchant.script(json!([{"on": "any", "latency_ms": 60}])).await;
    let began = std::time::Instant::now();
    merchant.ordered("hf000001").await;
    assert!(began.elapsed().as_millis() >= 60);
}

#[tokio::test]
async fn the_official_account_goes_wrong_too() {
    let merchant = Merchant::new().await;
    let asked = json!({
        "grant_type": "client_credential", "appid": APPID, "secret": "wechat-sim-official-account-secret",
    });
    let token = async || merchant.sim("/cgi-bin/stable_token", &asked).await.1;
    let send = async |token: &Value| {
        let path = format!("/cgi-bin/message/template/send?access_token={}", token["access_token"].as_str().unwrap());
        let message = json!({"touser": "o1", "template_id": "t", "data": {"thing1": {"value": "x"}}});
        merchant.sim(&path, &message).await.1["errcode"].clone()
    };
    merchant
        .script(json!([
            {"on": "token", "errcode": -1, "count": 1},
            {"on": "template_send", "expire_token": true, "count": 1},
            {"on": "template_send", "order": "o1", "errcode": 45009, "count": 2},
        ]))
        .await;
    assert_eq!(token().await["errcode"], -1);
    let first = token().await;
    assert_eq!(send(&first).await, 45009, "a scripted errcode comes before any rule");
    assert_eq!(send(&first).await, 45009);
    assert_eq!(send(&first).await, 42001, "and all tokens had died meanwhile");
    let second = token().await;
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!(send(&second).await, 0);

    merchant.script(json!([{"on": "template_send", "revoke_token": true, "count": 1}])).await;
    assert_eq!(send(&second).await, 40001, "somebody else refreshed by force");
    assert_eq!(send(&token().await).await, 0, "with the token that is the latest now");
}

#[tokio::test]
async fn the_same_seed_goes_wrong_alike_in_any_order() {
    let run = async |seed: u64, numbers: Vec<u32>| {
        let merchant = Merchant::new().await;
        let script = json!({"seed": seed, "rules": [{"on": "order", "rate": 0.3, "status": 500}]});
        assert_eq!(merchant.sim("/_sim/script", &script).await.0, 200);
        let mut struck = Vec::new();
        for number in numbers {
            let answer = merchant.post(NATIVE, &merchant.native(&format!("hf{number:06}"))).await;
            if answer.status == 500 {
                struck.push(number);
            }
        }
        struck.sort_unstable();
        struck
    };
    let there = run(7, (0..60).collect()).await;
    assert!((8..=28).contains(&there.len()), "about three in ten: {there:?}");
    assert_eq!(there, run(7, (0..60).rev().collect()).await);
    assert_ne!(there, run(8, (0..60).collect()).await);
}

#[tokio::test]
async fn a_script_that_makes_no_sense_is_told_why() {
    let merchant = Merchant::new().await;
    merchant.script(json!([{"on": "order", "status": 500}])).await;
    for (script, word) in [
        (json!({"rule": []}), "rule"),
        (json!({"rules": [{"on": "ordering", "status": 500}]}), "ordering"),
        (json!({"rules": [{"on": "order", "latency": 5}]}), "latency"),
        (json!({"rules": [{"on": "order"}]}), "nothing"),
        (json!({"rules": [{"on": "order", "rate": 2.0, "status": 500}]}), "rate"),
        (json!({"rules": [{"on": "order", "status": 200}]}), "status"),
        (json!({"rules": [{"on": "order", "code": "X"}]}), "status"),
        (json!({"rules": [{"on": "order", "callback": "twice"}]}), "callback"),
        (json!({"rules": [{"on": "callback_payment", "status": 500}]}), "late_ms"),
        (json!({"rules": [{"on": "callback_payment", "callback": "thrice"}]}), "thrice"),
        (json!({"rules": [{"on": "callback_payment", "callback": "never", "attempts": 2}]}), "attempts"),
        (json!({"rules": [{"on": "order", "answer_lost": true, "status": 429}]}), "status"),
        (json!({"rules": [{"on": "bill", "bill": "missing"}]}), "bill_payment"),
        (json!({"rules": [{"on": "bill_payment", "status": 500}]}), "bill_payment"),
        (json!({"rules": [{"on": "bill", "damaged": true}]}), "bill_download"),
        (json!({"rules": [{"on": "bill_download", "signtest": true}]}), "signed"),
        (json!({"rules": [{"on": "token", "revoke_token": true}]}), "template_send"),
        (json!({"rules": [{"on": "query", "errcode": 1}]}), "errcode"),
        (json!({"rules": [{"on": "query", "refund": "CLOSED"}]}), "refund"),
        (json!({"rules": [{"on": "order", "state": "X"}]}), "refund_query"),
        (json!({"rules": [{"on": "token", "signtest": true}]}), "signed"),
        (json!({"rules": [{"on": "order", "answer_lost": "found"}]}), "answer_lost"),
    ] {
        let (status, problem) = merchant.sim("/_sim/script", &script).await;
        assert_eq!(status, 400, "{script}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    let in_force = merchant.http.get(format!("{}/_sim/script", merchant.wechat.url)).send().await.unwrap();
    let in_force: Value = in_force.json().await.unwrap();
    assert_eq!(in_force["script"]["rules"], json!([{"on": "order", "status": 500}]), "the old one stays");
    assert_eq!(merchant.post(NATIVE, &merchant.native("hf000001")).await.status, 500);
    merchant.sim("/_sim/script", &json!({})).await;
    merchant.ordered("hf000001").await;
}
