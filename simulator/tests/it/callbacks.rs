//! Callbacks: what they look like, when they are sent again, and what can go wrong with them.

use axum::http::StatusCode;
use serde_json::json;
use wechat_sim::Settings;

use crate::merchant::{KEYS, Merchant};

#[tokio::test]
async fn a_callback_has_the_documented_shape() {
    let mut merchant = Merchant::new().await;
    merchant.paid("hf000001").await;
    let callback = merchant.callback().await;
    assert_eq!(callback.header("Wechatpay-Serial"), KEYS.public_key_id);
    assert_eq!(callback.header("Content-Type"), "application/json");
    let envelope = callback.envelope();
    assert_eq!(envelope["id"].as_str().unwrap().len(), 36);
    assert_eq!(envelope["event_type"], "TRANSACTION.SUCCESS");
    assert_eq!(envelope["resource_type"], "encrypt-resource");
    assert_eq!(envelope["resource"]["original_type"], "transaction");
    assert_eq!(envelope["resource"]["nonce"].as_str().unwrap().len(), 12);
}

#[tokio::test]
async fn it_is_sent_again_until_it_is_accepted_freshly_signed_with_the_same_content() {
    let mut merchant = Merchant::new().await;
    *merchant.answers.lock().unwrap() =
        vec![StatusCode::INTERNAL_SERVER_ERROR, StatusCode::CREATED, StatusCode::FOUND, StatusCode::OK];
    merchant.paid("hf000001").await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        attempts.push(merchant.callback().await);
    }
    for (index, attempt) in attempts.iter().enumerate() {
        assert!(attempt.is_genuine());
        assert_eq!(attempt.body, attempts[0].body);
        let earlier = &attempts[..index];
        assert!(earlier.iter().all(|other| other.header("Wechatpay-Nonce") != attempt.header("Wechatpay-Nonce")));
    }
    // 15 s, 15 s, 30 s at three hundred times the speed.
    let waits: Vec<_> = attempts.windows(2).map(|pair| (pair[1].at - pair[0].at).as_millis()).collect();
    assert!(waits[0] >= 50 && waits[1] >= 50 && waits[2] >= 100, "{waits:?}");
    merchant.callbacks_are_done().await;
    assert!(merchant.no_callback_waits());
}

#[tokio::test]
async fn it_gives_up_after_fifteen_resends() {
    let mut merchant = Merchant::with(Settings { callback_speed: 1e6, ..Settings::default() }).await;
    *merchant.answers.lock().unwrap() = vec![StatusCode::BAD_REQUEST; 20];
    merchant.paid("hf000001").await;
    for _ in 0..16 {
        merchant.callback().await;
    }
    merchant.callbacks_are_done().await;
    assert!(merchant.no_callback_waits());
}

#[tokio::test]
async fn waits_follow_the_simulators_clock() {
    let mut merchant = Merchant::with(Settings::default()).await;
    merchant.answers.lock().unwrap().push(StatusCode::SERVICE_UNAVAILABLE);
    merchant.paid("hf000001").await;
    merchant.callback().await;
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 20})).await;
    assert!(merchant.callback().await.is_genuine(), "stamped by the true clock");
}

#[tokio::test]
async fn hours_late_again_after_success_and_untrue() {
    let mut merchant = Merchant::with(Settings::default()).await;
    merchant
        .script(json!([
            {"on": "callback_payment", "order": "hf-hours", "callback": {"late_ms": 5 * 3_600_000}},
            {"on": "callback_payment", "order": "hf-again", "callback": {"again_ms": 60_000}},
            {"on": "callback_payment", "order": "hf-money", "callback": "wrong_currency"},
            {"on": "callback_payment", "order": "hf-mchid", "callback": "wrong_mchid"},
            {"on": "callback_payment", "order": "hf-appid", "callback": "wrong_appid"},
        ]))
        .await;
    merchant.paid("hf-again").await;
    let first = merchant.callback().await;
    merchant.callbacks_are_done().await;
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 60})).await;
    let again = merchant.callback().await;
    assert_eq!(again.body, first.body, "accepted, and sent again");
    assert!(again.is_genuine());

    merchant.paid("hf-hours").await;
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 4 * 3600})).await;
    assert!(merchant.no_callback_waits());
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 3600})).await;
    assert_eq!(merchant.callback().await.opened()["out_trade_no"], "hf-hours");

    for (order, pointer) in [("hf-money", "/amount/currency"), ("hf-mchid", "/mchid"), ("hf-appid", "/appid")] {
        merchant.paid(order).await;
        let callback = merchant.callback().await;
        assert!(callback.is_genuine());
        assert_ne!(callback.opened().pointer(pointer), merchant.query(order).await.json().pointer(pointer), "{order}");
    }
}

#[tokio::test]
async fn forged_ones_come_first_and_the_right_one_after() {
    for forgery in ["signtest", "wrong_signature", "wrong_key", "replayed"] {
        let mut merchant = Merchant::new().await;
        merchant.script(json!([{"on": "callback_payment", "callback": forgery, "attempts": 2}])).await;
        *merchant.answers.lock().unwrap() = vec![StatusCode::UNAUTHORIZED; 2];
        merchant.paid("hf000001").await;
        for _ in 0..2 {
            let forged = merchant.callback().await;
            assert!(!forged.is_genuine(), "{forgery}");
            let signature = forged.header("Wechatpay-Signature");
            assert_eq!(signature.starts_with("WECHATPAY/SIGNTEST/"), forgery == "signtest");
        }
        assert!(merchant.callback().await.is_genuine(), "{forgery}");
    }
}

#[tokio::test]
async fn twice_never_late_reordered_and_of_the_wrong_amount() {
    let mut merchant = Merchant::new().await;
    merchant
        .script(json!([
            {"on": "callback_payment", "order": "hf-twice", "callback": "twice"},
            {"on": "callback_payment", "order": "hf-never", "callback": "never"},
            {"on": "callback_payment", "order": "hf-late0", "callback": {"late_ms": 80}},
            {"on": "callback_payment", "order": "hf-amount", "callback": "wrong_amount"},
            {"on": "callback_payment", "order": "hf-first", "callback": "reordered"},
        ]))
        .await;
    merchant.paid("hf-never").await;
    merchant.paid("hf-twice").await;
    let (one, two) = (merchant.callback().await, merchant.callback().await);
    assert_eq!(one.body, two.body);
    assert!(one.is_genuine() && two.is_genuine());
    assert_eq!(one.opened()["out_trade_no"], "hf-twice");

    merchant.paid("hf-amount").await;
    let wrong = merchant.callback().await;
    assert!(wrong.is_genuine());
    assert_eq!(wrong.opened()["amount"]["total"], 20001);
    assert_eq!(merchant.query("hf-amount").await.json()["amount"]["total"], 20000);

    let began = tokio::time::Instant::now();
    merchant.paid("hf-late0").await;
    assert!((merchant.callback().await.at - began).as_millis() >= 80);

    merchant.paid("hf-first").await;
    merchant.paid("hf-second").await;
    let order = [merchant.callback().await, merchant.callback().await].map(|callback| callback.opened());
    assert_eq!(order[0]["out_trade_no"], "hf-second");
    assert_eq!(order[1]["out_trade_no"], "hf-first");
    merchant.callbacks_are_done().await;
    assert!(merchant.no_callback_waits(), "the callback that never comes has not come");
}
