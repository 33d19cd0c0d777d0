//! What WeChat's hosts answer: a payment, a refund, an error, the Official Account.
//!
//! Input: a line that says which (`transaction`, `refund`, `token 200`, `sending 200`, or a call's name and the
//! status: `create_order 400`); then the body.

use holdfast::wechat::{
    answers::{Call, Class, Inconclusive},
    official_account::{AccessToken, Sending},
    refund::Refund,
    transaction::{Standing, Transaction},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::time::Duration;

use super::{OPENID, assert_silent, replaced};

const LONGEST_WORDS: usize = 300;
const LONGEST_CODE: usize = 64;

pub(crate) fn check(data: &[u8]) -> bool {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (kind, body) = (std::str::from_utf8(&data[..at]).unwrap_or_default(), data.get(at + 1..).unwrap_or_default());
    let (kind, status) = kind.split_once(' ').unwrap_or((kind, "200"));
    let status = status.parse().unwrap_or(200);
    match kind {
        "transaction" => serde_json::from_slice(body).is_ok_and(|answer| transaction(&answer)),
        "refund" => serde_json::from_slice(body).is_ok_and(|answer| refund(&answer)),
        "token" => token(status, body),
        "sending" => sending(status, body),
        _ => {
            if let Some(call) = Call::ALL.into_iter().find(|call| call.label() == kind) {
                error(call, status, body);
            }
            false
        }
    }
}

/// True when it says that money was taken.
pub(super) fn transaction(answer: &Transaction) -> bool {
    let text = serde_json::to_vec(answer).expect("what was JSON is JSON again");
    assert_eq!(&serde_json::from_slice::<Transaction>(&text).expect("reads back"), answer);
    let Standing::Paid(payment) = answer.standing() else {
        return false;
    };
    assert!(payment.total_fen.0 > 0);
    assert!(payment.payer_total_fen.is_none_or(|fen| fen.0 >= 0));
    assert!(!payment.out_trade_no.is_empty() && !payment.transaction_id.is_empty());
    true
}

/// True when it says how a refund stands.
pub(super) fn refund(answer: &Refund) -> bool {
    let text = serde_json::to_vec(answer).expect("what was JSON is JSON again");
    assert_eq!(&serde_json::from_slice::<Refund>(&text).expect("reads back"), answer);
    let Some(facts) = answer.facts() else {
        return false;
    };
    assert!(facts.refund_fen.0 > 0);
    assert!(!facts.out_refund_no.is_empty());
    true
}

/// Whatever an unsigned answer says, it proves nothing, repeats nothing of the customer's and fits a log line.
fn error(call: Call, status: u16, body: &[u8]) {
    // What we sent comes back in `value`.
    let body = replaced(body, br#""value":"PERSON""#, format!(r#""value":"{OPENID}""#).as_bytes());
    let error = Inconclusive::from_answer(call, status, None, &body);
    if status >= 500 {
        assert_eq!(error.class, Class::Unknown);
    }
    if status == 429 {
        assert_eq!(error.class, Class::Busy);
    }
    assert!(error.detail.chars().count() <= LONGEST_WORDS);
    assert!(error.code.as_ref().is_none_or(|code| code.chars().count() <= LONGEST_CODE));
    assert_silent(&format!("{error} {error:?}"), &[OPENID]);
}

fn token(status: u16, body: &[u8]) -> bool {
    match AccessToken::of_answer(status, body) {
        Ok(token) => {
            assert_eq!(status, 200);
            assert!(token.expires_in <= Duration::from_secs(2 * 60 * 60));
            let text = token.token.expose_secret();
            assert!((1..=512).contains(&text.len()));
            // A short one may be a part of the words around it.
            if text.len() > 20 {
                assert_silent(&format!("{token:?}"), &[text]);
            }
            true
        }
        Err(fault) => {
            assert!(fault.errcode != Some(0));
            assert!(fault.detail.chars().count() <= LONGEST_WORDS);
            false
        }
    }
}

fn sending(status: u16, body: &[u8]) -> bool {
    match Sending::of_answer(status, body) {
        Sending::Sent { .. } => {
            assert_eq!(status, 200);
            // What is not read may be anything, bytes that are no UTF-8 included.
            let json: Value = serde_json::from_slice(body).unwrap_or(json!({ "errcode": 0 }));
            assert_eq!(json["errcode"], 0);
            true
        }
        Sending::Refused { errcode, detail, .. } => {
            assert!(status == 200 && errcode != 0);
            assert!(detail.chars().count() <= LONGEST_WORDS);
            false
        }
        Sending::Unknown { .. } => false,
    }
}
