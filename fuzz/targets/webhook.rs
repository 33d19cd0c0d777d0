//! `POST /v1/wechat/notify/…`: headers, envelope and sealed content of a callback.
//!
//! Input: the headers, an empty line, the body; another empty line, what `SEALED` in the body is to hold.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use holdfast::{
    domain::message::{Message, PaymentSeen, RefundSeen, Source},
    wechat::{
        notification::{
            Notification, NotificationFault, Unreadable, read_payment_notification, read_refund_notification,
        },
        transaction::{Standing, TradeState},
        verify::SignatureFault,
    },
};
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    OPENID, answers, assert_plain, assert_silent, lines, parts, replaced,
    wechat_side::{API_V3_KEY, KEYS, NOW, headers, seal},
    with_person,
};

/// The longest `message_id` that AMQP has room for.
const SHORT_STRING_MAX: usize = 255;

pub(crate) fn check(data: &[u8]) -> bool {
    let (head, rest) = parts(data);
    let (envelope, content) = parts(rest);
    let body = sealed(envelope, &with_person(content));
    let (headers, signed) = headers(lines(head), &body);
    let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a date");

    let message = match read_payment_notification(&headers, &body, now, &KEYS) {
        Ok(notification) => payment_taken(&notification),
        Err(NotificationFault::Unreadable(Unreadable::Event(_))) => {
            match read_refund_notification(&headers, &body, now, &KEYS) {
                Ok(notification) => refund_taken(&notification),
                Err(fault) => return refused(&fault, signed),
            }
        }
        Err(fault) => return refused(&fault, signed),
    };
    assert!(signed, "taken without WeChat's signature: {message:?}");
    if let Some(message) = &message {
        assert!(message.key().len() <= SHORT_STRING_MAX, "{}", message.key());
        assert_eq!(Message::read(message.kind(), &message.body()).expect("reads back"), *message);
    }
    let mut changed = body.clone();
    let at = data.len() % changed.len();
    changed[at] ^= 1;
    let fault = read_payment_notification(&headers, &changed, now, &KEYS).expect_err("another body");
    assert_eq!(fault, NotificationFault::Signature(SignatureFault::Mismatch));
    message.is_some()
}

/// The body with the content sealed under the envelope's own nonce and associated data.
fn sealed(envelope: &[u8], content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return envelope.to_vec();
    }
    let json: Value = serde_json::from_slice(envelope).unwrap_or_default();
    let text = |member: &str| json["resource"][member].as_str().unwrap_or_default().to_owned();
    let sealed = seal(API_V3_KEY, text("nonce").as_bytes(), text("associated_data").as_bytes(), content);
    replaced(envelope, b"SEALED", sealed.unwrap_or_else(|| BASE64.encode(content)).as_bytes())
}

fn refused(fault: &NotificationFault, signed: bool) -> bool {
    assert!(signed || matches!(fault, NotificationFault::Signature(_)), "read without WeChat's signature: {fault}");
    assert_silent(&format!("{fault} {fault:?} {}", fault.label()), &[OPENID, API_V3_KEY]);
    false
}

fn payment_taken(notification: &Notification<holdfast::wechat::transaction::Transaction>) -> Option<Message> {
    assert!(notification.event_type.starts_with("TRANSACTION."));
    assert_silent(&format!("{:?}", notification.content.payer), &[OPENID]);
    answers::transaction(&notification.content);
    let Standing::Paid(payment) = notification.content.standing() else {
        return None;
    };
    assert!(matches!(notification.content.trade_state, TradeState::Success | TradeState::Refund));
    assert!(payment.total_fen.is_amount());
    let words = [
        &notification.id,
        &notification.event_type,
        &payment.out_trade_no,
        &payment.transaction_id,
        &payment.mchid,
        &payment.appid,
        &payment.trade_type,
        &payment.currency,
    ];
    assert_plain(&words);
    assert_plain(&payment.bank_type.iter().collect::<Vec<_>>());
    Some(Message::PaymentSeen(PaymentSeen { payment: *payment, source: source(notification), request_id: "r".into() }))
}

fn refund_taken(notification: &Notification<holdfast::wechat::refund::Refund>) -> Option<Message> {
    assert!(notification.event_type.starts_with("REFUND."));
    answers::refund(&notification.content);
    let facts = notification.content.facts()?;
    assert!(facts.refund_fen.is_amount());
    assert_plain(&[&notification.id, &facts.out_refund_no, &facts.out_trade_no, &facts.wechat_refund_id]);
    Some(Message::RefundSeen(RefundSeen {
        facts,
        source: source(notification),
        request_id: "r".into(),
        taken_in: None,
    }))
}

fn source<T>(notification: &Notification<T>) -> Source {
    Source::Callback { notification_id: notification.id.clone() }
}
