//! Messages that cannot be read, and those that are outside every range.

use super::*;
use serde_json::json;

/// E2: what the books, the broker or a sum cannot bear is unreadable, whoever patched it in.
#[test]
fn e2_a_message_outside_every_range_is_unreadable() {
    let paid = |fen: i64| {
        let payment = json!({"out_trade_no": "hf000001", "transaction_id": "4200", "mchid": "1", "appid": "wx", "trade_type": "NATIVE",
            "bank_type": "a\u{0}b", "total_fen": fen, "payer_total_fen": null, "currency": "CNY", "success_time": "9999-12-31T23:59:59-23:59"});
        let body = json!({"payment": payment, "source": {"by": "query"}, "request_id": "r"});
        Message::read("payment.seen", body.to_string().as_bytes())
    };
    let Ok(Message::PaymentSeen(seen)) = paid(20_000) else { panic!("a payment") };
    assert_eq!((seen.payment.success_time, seen.payment.bank_type.as_deref()), (None, Some("a\u{FFFD}b")));
    for fen in [i64::MIN, -1, 0, Fen::LARGEST.0 + 1, i64::MAX] {
        assert!(paid(fen).is_err(), "{fen}");
    }
    for (after_ms, fits) in [(0, true), (LONGEST_ALARM_MS, true), (LONGEST_ALARM_MS + 1, false), (u64::MAX, false)] {
        let body = json!({"order_id": "hf000001", "alarm": "hold", "after_ms": after_ms});
        assert_eq!(Message::read("order.alarm", body.to_string().as_bytes()).is_ok(), fits, "{after_ms}");
    }
}

#[test]
fn an_unreadable_message_is_told_by_its_place_and_never_by_its_content() {
    for (kind, body) in [
        ("order.submitted", r#"{"order_id":"hf0001","user_id":"ann","seat_no":"o-secret"}"#),
        ("order.alarm", r#"{"order_id":"hf0001","alarm":"o-secret"}"#),
        ("payment.seen", r#""o-secret""#),
    ] {
        let words = Message::read(kind, body.as_bytes()).expect_err("unreadable").to_string();
        assert!(words.starts_with(&format!("the body is no {kind}: ")) && words.contains("line 1 column"), "{words}");
        assert!(!words.contains("o-secret"), "{words}");
    }
}
