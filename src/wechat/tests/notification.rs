//! Callbacks: the published AEAD vectors, the way of a good one, and each way of being refused.

use super::support::{API_V3_KEY, NOW, PLATFORM, PUBLIC_KEY_ID, api_v3, notification_keys, now, seal, signed_headers};
use crate::domain::{json, money::Fen, refund::RefundStanding};
use crate::wechat::aead::{ApiV3Key, ApiV3Keys, OpenFault, Resource, WrongLength};
use crate::wechat::notification::{
    NotificationFault, NotificationKeys, PaymentNotification, read_payment_notification, read_refund_notification,
};
use crate::wechat::refund::{Refund, RefundStatus};
use crate::wechat::transaction::{Standing, TradeState, Transaction};
use proptest::prelude::*;
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../tests/vectors/aead-aes-256-gcm.json");

#[test]
fn published_aead_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors");
    for case in vectors["cases"].as_array().expect("cases") {
        let text = |name: &str| case[name].as_str().expect("text").to_owned();
        if case["key_bytes"] != 32 {
            assert_eq!(ApiV3Key::new(&text("key")).err(), Some(WrongLength(16)));
            continue;
        }
        let keys = api_v3(&text("key"));
        let good = Resource {
            algorithm: "AEAD_AES_256_GCM".to_owned(),
            nonce: text("nonce"),
            associated_data: Some(text("associated_data")),
            ciphertext: text("ciphertext_base64"),
        };
        assert_eq!(keys.open(&good).as_deref(), Ok(text("plaintext").as_bytes()));
        let open = |change: &dyn Fn(&mut Resource)| {
            let mut resource = good.clone();
            change(&mut resource);
            keys.open(&resource).expect_err("must stay closed")
        };
        let data = |r: &mut Resource| r.associated_data = Some("bad-associatedData".to_owned());
        assert_eq!(open(&data), OpenFault::Authentication);
        assert_eq!(open(&|r| r.associated_data = None), OpenFault::Authentication);
        assert_eq!(open(&|r| r.nonce = "bad-4a9R25RW".to_owned()), OpenFault::Authentication);
        assert_eq!(open(&|r| r.nonce = "short".to_owned()), OpenFault::Nonce);
        assert_eq!(open(&|r| r.ciphertext = "A".repeat(172)), OpenFault::Authentication);
        assert_eq!(open(&|r| r.ciphertext = String::new()), OpenFault::Authentication);
        assert_eq!(open(&|r| r.ciphertext = "invalid cipher".to_owned()), OpenFault::Encoding);
        assert_eq!(open(&|r| r.algorithm = "AEAD_SM4_GCM".to_owned()), OpenFault::Algorithm);
    }
}

fn transaction() -> Value {
    json!({
        "transaction_id": "4200002000202511240000000001", "out_trade_no": "hf0001",
        "mchid": "1900000109", "appid": "wx8888888888888888", "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功", "trade_type": "NATIVE", "bank_type": "OTHERS", "attach": "",
        "success_time": "2025-11-25T00:00:00+08:00", "payer": {"openid": "o-secret"},
        "amount": {"total": 20000, "payer_total": 19900, "currency": "CNY", "payer_currency": "CNY"},
        "promotion_detail": [{"coupon_id": "1", "amount": 100}], "something_new": {"a": 1},
    })
}

fn envelope(event: &str, key: &str, aad: Option<&str>, content: &[u8]) -> Value {
    json!({
        "id": "EV-1", "create_time": "2025-11-25T00:00:01+08:00", "event_type": event,
        "resource_type": "encrypt-resource", "summary": "支付成功",
        "resource": {
            "original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "associated_data": aad,
            "nonce": "fdasflkja484",
            "ciphertext": seal(key, "fdasflkja484", aad.unwrap_or_default(), content),
        },
    })
}

fn deliver(body: &[u8], keys: &NotificationKeys) -> Result<PaymentNotification, NotificationFault> {
    let headers = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, body);
    read_payment_notification(&headers, body, now(), keys)
}

fn deliver_json(envelope: &Value) -> Result<PaymentNotification, &'static str> {
    deliver(envelope.to_string().as_bytes(), &notification_keys()).map_err(|fault| fault.label())
}

#[test]
fn s4_1_a_good_payment_callback_is_read() {
    for aad in [Some("transaction"), Some(""), None] {
        let content = transaction().to_string();
        let envelope = envelope("TRANSACTION.SUCCESS", API_V3_KEY, aad, content.as_bytes());
        let read = deliver_json(&envelope).expect("good");
        assert_eq!((read.id.as_str(), read.event_type.as_str()), ("EV-1", "TRANSACTION.SUCCESS"));
        let standing = read.content.standing();
        assert!(
            matches!(&standing, Standing::Paid(p) if p.total_fen == Fen(20_000) && p.currency == "CNY"),
            "{standing:?}"
        );
        assert!(!format!("{read:?}").contains("o-secret"));
        let travelled = serde_json::to_string(&read.content).expect("JSON");
        let arrived: Transaction = serde_json::from_str(&travelled).expect("the same");
        assert_eq!(arrived, read.content);
    }
}

#[test]
fn s4_1_each_bad_callback_is_refused_by_its_reason() {
    let content = transaction().to_string();
    let good = envelope("TRANSACTION.SUCCESS", API_V3_KEY, Some("transaction"), content.as_bytes());
    let with = |path: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(path).expect("the member") = value;
        deliver_json(&changed).expect_err("bad")
    };
    assert_eq!(with("/event_type", json!("REFUND.SUCCESS")), "event");
    assert_eq!(with("/id", json!(1)), "envelope");
    assert_eq!(with("/resource/nonce", json!("")), "sealing");
    assert_eq!(with("/resource/algorithm", json!("none")), "sealing");
    assert_eq!(with("/resource/associated_data", json!("refund")), "decryption");

    let sealed = |key: &str, content: &[u8]| {
        deliver_json(&envelope("TRANSACTION.SUCCESS", key, None, content)).expect_err("bad")
    };
    assert_eq!(sealed("another-key-of-thirty-two-bytes!", b"{}"), "decryption");
    assert_eq!(sealed(API_V3_KEY, b"\xff"), "content");
    assert_eq!(sealed(API_V3_KEY, b"{}"), "content");
    let mut yuan = transaction();
    yuan["amount"]["total"] = json!(200.0);
    assert_eq!(sealed(API_V3_KEY, yuan.to_string().as_bytes()), "content");

    let keys = notification_keys();
    let unsigned = read_payment_notification(&Default::default(), b"{}", now(), &keys);
    assert_eq!(unsigned.expect_err("bad").label(), "header_missing");
}

/// G5: a callback about anything shows a wrong APIv3 key; the test callback must open.
#[test]
fn a_strange_event_is_opened_too() {
    let other = "another-key-of-thirty-two-bytes!";
    for (event, key, algorithm, label) in [
        ("SECURITY_ECHO.SUCCESS", API_V3_KEY, "AEAD_AES_256_GCM", "event"),
        ("SECURITY_ECHO.SUCCESS", other, "AEAD_AES_256_GCM", "decryption"),
        ("SECURITY_ECHO.SUCCESS", API_V3_KEY, "AEAD_SM4_GCM", "sealing"),
        ("MARKET.NEWS", API_V3_KEY, "AEAD_AES_256_GCM", "event"),
        ("MARKET.NEWS", other, "AEAD_AES_256_GCM", "decryption"),
        ("MARKET.NEWS", API_V3_KEY, "AEAD_SM4_GCM", "event"),
    ] {
        let mut envelope = envelope(event, key, Some(""), b"any text");
        envelope["resource"]["algorithm"] = json!(algorithm);
        assert_eq!(deliver_json(&envelope).err(), Some(label), "{event} {algorithm}");
    }
}

#[test]
fn a_fault_repeats_nothing_of_what_was_sealed() {
    let content = br#"{"trade_state":"SUCCESS","payer":"o-secret"}"#;
    let body = envelope("TRANSACTION.SUCCESS", API_V3_KEY, None, content).to_string();
    let fault = deliver(body.as_bytes(), &notification_keys()).expect_err("bad");
    assert!(!format!("{fault} {fault:?}").contains("o-secret"));
}

#[test]
fn callbacks_in_flight_at_a_key_reset_still_open() {
    let content = transaction().to_string();
    let body = envelope("TRANSACTION.SUCCESS", API_V3_KEY, None, content.as_bytes()).to_string();
    let fresh = "the-new-key-of-thirty-two-bytes!";
    let mut keys = notification_keys();
    let key = |text| ApiV3Key::new(text).expect("32 bytes");
    keys.api_v3 = ApiV3Keys::new(key(fresh), None);
    assert!(deliver(body.as_bytes(), &keys).is_err());
    keys.api_v3 = ApiV3Keys::new(key(fresh), Some(key(API_V3_KEY)));
    assert!(deliver(body.as_bytes(), &keys).is_ok());
}

#[test]
fn a_refund_callback_is_read_by_its_own_spelling() {
    let content = json!({
        "mchid": "1900000109", "transaction_id": "42", "out_trade_no": "hf0001", "refund_id": "50",
        "out_refund_no": "r1", "refund_status": "ABNORMAL", "user_received_account": "card",
        "amount": {"total": 20000, "refund": 500, "payer_total": 20000, "payer_refund": 500},
    });
    let text = content.to_string();
    let body = envelope("REFUND.ABNORMAL", API_V3_KEY, Some("refund"), text.as_bytes()).to_string();
    let headers = signed_headers(&PLATFORM, PUBLIC_KEY_ID, NOW, body.as_bytes());
    let keys = notification_keys();
    let read = read_refund_notification(&headers, body.as_bytes(), now(), &keys).expect("good");
    let facts = read.content.facts().expect("a known word");
    assert_eq!((facts.out_refund_no.as_str(), facts.wechat_refund_id.as_str()), ("r1", "50"));
    assert_eq!((facts.standing, facts.refund_fen), (RefundStanding::Abnormal, Fen(500)));
    let unheard_of = Refund { status: RefundStatus::Other("SOMETHING_NEW".to_owned()), ..read.content };
    assert_eq!(unheard_of.facts(), None);
    assert!(read_payment_notification(&headers, body.as_bytes(), now(), &keys).is_err());
}

#[test]
fn s2_4_every_trade_state_has_one_meaning() {
    let standing = |state: &str| {
        let mut transaction = transaction();
        transaction["trade_state"] = json!(state);
        let transaction: Transaction = serde_json::from_value(transaction).expect("good");
        assert_eq!(transaction.trade_state.as_str(), state);
        transaction.standing()
    };
    for paid in ["SUCCESS", "REFUND"] {
        assert!(matches!(standing(paid), Standing::Paid(_)), "{paid}");
    }
    for unpaid in ["NOTPAY", "USERPAYING", "PAYERROR"] {
        assert_eq!(standing(unpaid), Standing::Unpaid, "{unpaid}");
    }
    for closed in ["CLOSED", "REVOKED"] {
        assert_eq!(standing(closed), Standing::Closed, "{closed}");
    }
    assert!(matches!(standing("SOMETHING_NEW"), Standing::Unclear(_)));
    for member in ["transaction_id", "out_trade_no", "amount"] {
        let mut partial = transaction();
        partial.as_object_mut().expect("object").remove(member);
        let partial: Transaction = serde_json::from_value(partial).expect("all is optional");
        assert!(matches!(partial.standing(), Standing::Unclear(_)), "{member}");
    }
}

#[test]
fn an_unpaid_order_lacks_most_or_leaves_it_empty() {
    let lacking = json!({"amount": {"payer_currency": "CNY", "total": 20000}, "mchid": "1900000109",
        "out_trade_no": "hf0001", "promotion_detail": [], "scene_info": {"device_id": ""},
        "trade_state": "NOTPAY", "trade_state_desc": "订单未支付"});
    let mut empty = lacking.clone();
    for member in ["success_time", "transaction_id", "attach", "bank_type"] {
        empty[member] = json!("");
    }
    for unpaid in [lacking, empty.clone()] {
        let unpaid: Transaction = serde_json::from_value(unpaid).expect("good");
        assert_eq!((unpaid.standing(), unpaid.success_time), (Standing::Unpaid, None));
    }
    empty["trade_state"] = json!("SUCCESS");
    empty["amount"]["currency"] = json!("CNY");
    let paid: Transaction = serde_json::from_value(empty.clone()).expect("good");
    assert!(matches!(paid.standing(), Standing::Unclear(_)));
}

/// E1: money that WeChat took is known as paid, whatever it says about the time. A time outside the calendar is none.
#[test]
fn e1_a_strange_time_of_payment_costs_no_payment() {
    for time in ["", "yesterday", "0000-01-01T00:00:00+08:00", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:60Z"] {
        let mut odd = transaction();
        odd["success_time"] = json!(time);
        let odd: Transaction = serde_json::from_value(odd).expect("the shape is right");
        let Standing::Paid(payment) = odd.standing() else { panic!("{time:?} costs a payment") };
        assert_eq!(payment.success_time, None, "{time:?}");
    }
}

/// E2: what PostgreSQL cannot store, or an index cannot hold, gets no further than the reading of a callback.
#[test]
fn e2_signed_texts_are_read_as_plain_short_words() {
    let keys = notification_keys();
    let mut odd = transaction();
    odd["bank_type"] = json!("OTH\u{0}ERS\u{202E}");
    odd["appid"] = json!("x".repeat(5_000));
    odd["attach"] = json!("\u{0}");
    let mut envelope = envelope("TRANSACTION.SUCCESS", API_V3_KEY, None, odd.to_string().as_bytes());
    envelope["id"] = json!(format!("EV\u{0}{}", "1".repeat(5_000)));
    envelope["create_time"] = json!("0000-01-01T00:00:00+08:00");
    let body = envelope.to_string();
    let read = deliver(body.as_bytes(), &keys).expect("it is WeChat's");
    assert!(read.id.starts_with("EV\u{FFFD}1") && read.id.chars().count() == 128, "{}", read.id);
    assert_eq!(read.create_time, None);
    let Standing::Paid(payment) = read.content.standing() else { panic!("it is paid") };
    assert_eq!(payment.bank_type.as_deref(), Some("OTH\u{FFFD}ERS\u{FFFD}"));
    assert_eq!(payment.appid.len(), 64);
    for member in ["transaction_id", "out_trade_no"] {
        let mut odd = transaction();
        odd[member] = json!("42\u{0}00");
        let odd: Transaction = json::read_plain(odd.to_string().as_bytes()).expect("the shape is right");
        assert!(matches!(odd.standing(), Standing::Unclear(_)), "{member}");
    }
}

proptest! {
    #[test]
    fn arbitrary_signed_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(deliver(&body, &notification_keys()).is_err());
    }

    #[test]
    fn arbitrary_sealed_content_never_panics(content in "\\PC{0,200}") {
        let envelope = envelope("TRANSACTION.SUCCESS", API_V3_KEY, None, content.as_bytes());
        prop_assert_eq!(deliver_json(&envelope).err(), Some("content"));
    }

    #[test]
    fn trade_states_keep_their_spelling(word in "[A-Z_]{1,20}") {
        prop_assert_eq!(String::from(TradeState::from(word.clone())), word);
    }
}

#[test]
fn s4_1_what_can_be_no_payment_is_for_a_person() {
    for (path, value) in [
        ("/amount/total", json!(0)),
        ("/amount/total", json!(-20000)),
        ("/amount/payer_total", json!(-1)),
        ("/transaction_id", json!("4".repeat(300))),
        ("/out_trade_no", json!("hf 0001")),
    ] {
        let mut odd = transaction();
        *odd.pointer_mut(path).expect("the member") = value;
        let odd: Transaction = serde_json::from_value(odd).expect("the shape is right");
        assert!(matches!(odd.standing(), Standing::Unclear(_)), "{path}");
    }
}
