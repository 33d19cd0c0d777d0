//! The table of codes, row by row.

use crate::wechat::answers::{Call, Claim, Class, Inconclusive};
use proptest::prelude::*;
use serde_json::json;

fn class(call: Call, status: u16, code: &str) -> Class {
    let body = json!({"code": code, "message": "…"}).to_string();
    Inconclusive::from_answer(call, status, None, body.as_bytes()).class
}

#[test]
fn s2_4_every_documented_code_has_its_conclusion() {
    use Call::{Certificates, CloseOrder, CreateOrder, CreateRefund, QueryOrder, QueryRefund};
    use Class::{Busy, Claimed, Misconfigured, Refused, Unknown};
    #[rustfmt::skip]
    let rows: &[(Call, u16, &str, Class)] = &[
        // Order.
        (CreateOrder, 400, "PARAM_ERROR", Refused),
        (CreateOrder, 400, "INVALID_REQUEST", Claimed(Claim::Conflict)),
        (CreateOrder, 400, "APPID_MCHID_NOT_MATCH", Misconfigured),
        (CreateOrder, 400, "MCH_NOT_EXISTS", Misconfigured),
        (CreateOrder, 400, "ORDER_CLOSED", Claimed(Claim::Closed)),
        (CreateOrder, 400, "ORDERCLOSED", Claimed(Claim::Closed)),
        (CreateOrder, 400, "ORDERPAID", Claimed(Claim::Paid)),
        (CreateOrder, 403, "ORDER_PAID", Claimed(Claim::Paid)),
        (CreateOrder, 401, "SIGN_ERROR", Misconfigured),
        (CreateOrder, 403, "NO_AUTH", Misconfigured),
        (CreateOrder, 403, "NOAUTH", Misconfigured),
        (CreateOrder, 403, "OUT_TRADE_NO_USED", Claimed(Claim::Conflict)),
        (CreateOrder, 429, "FREQUENCY_LIMITED", Busy),
        (CreateOrder, 429, "RATELIMIT_EXCEEDED", Busy),
        (CreateOrder, 500, "SYSTEM_ERROR", Unknown),
        (CreateOrder, 503, "SERVICE_UNAVAILABLE", Unknown),
        // Even the clearest word proves nothing with a 5xx.
        (CreateOrder, 500, "ORDERPAID", Unknown),
        // Query.
        (QueryOrder, 404, "ORDER_NOT_EXIST", Claimed(Claim::Absent)),
        (QueryOrder, 404, "ORDERNOTEXIST", Claimed(Claim::Absent)),
        (QueryOrder, 404, "ORDER_NOT_EXISTS", Claimed(Claim::Absent)),
        (QueryOrder, 404, "RESOURCE_NOT_EXISTS", Claimed(Claim::Absent)),
        (QueryOrder, 400, "INVALID_REQUEST", Refused),
        (QueryOrder, 400, "PARAM_ERROR", Refused),
        (QueryOrder, 400, "MCH_NOT_EXISTS", Misconfigured),
        (QueryOrder, 401, "SIGN_ERROR", Misconfigured),
        (QueryOrder, 403, "RULE_LIMIT", Misconfigured),
        (QueryOrder, 403, "TRADE_ERROR", Unknown),
        (QueryOrder, 429, "FREQUENCY_LIMITED", Busy),
        (QueryOrder, 500, "SYSTEMERROR", Unknown),
        // Close.
        (CloseOrder, 400, "ORDERPAID", Claimed(Claim::Paid)),
        (CloseOrder, 400, "ORDER_PAID", Claimed(Claim::Paid)),
        (CloseOrder, 400, "ORDER_CLOSED", Claimed(Claim::Closed)),
        (CloseOrder, 400, "INVALID_REQUEST", Claimed(Claim::Conflict)),
        (CloseOrder, 404, "ORDER_NOT_EXIST", Claimed(Claim::Absent)),
        (CloseOrder, 404, "ORDER_NOT_EXISTS", Claimed(Claim::Absent)),
        (CloseOrder, 403, "OUT_TRADE_NO_USED", Claimed(Claim::Conflict)),
        (CloseOrder, 403, "TRADE_ERROR", Claimed(Claim::Conflict)),
        (CloseOrder, 403, "NOT_ENOUGH", Claimed(Claim::Conflict)),
        (CloseOrder, 403, "RULE_LIMIT", Misconfigured),
        (CloseOrder, 403, "ACCOUNT_ERROR", Misconfigured),
        (CloseOrder, 202, "USER_PAYING", Busy),
        (CloseOrder, 202, "USERPAYING", Busy),
        (CloseOrder, 400, "PARAM_ERROR", Refused),
        (CloseOrder, 401, "SIGN_ERROR", Misconfigured),
        (CloseOrder, 500, "SYSTEM_ERROR", Unknown),
        // Refund.
        (CreateRefund, 400, "PARAM_ERROR", Refused),
        (CreateRefund, 400, "INVALID_REQUEST", Claimed(Claim::Conflict)),
        (CreateRefund, 403, "NOT_ENOUGH", Claimed(Claim::NotEnough)),
        (CreateRefund, 403, "NOTENOUGH", Claimed(Claim::NotEnough)),
        (CreateRefund, 403, "USER_ACCOUNT_ABNORMAL", Claimed(Claim::PayerAccountAbnormal)),
        (CreateRefund, 404, "MCH_NOT_EXISTS", Misconfigured),
        (CreateRefund, 404, "RESOURCE_NOT_EXISTS", Claimed(Claim::Absent)),
        (CreateRefund, 404, "ORDER_NOT_EXIST", Claimed(Claim::Absent)),
        (CreateRefund, 429, "FREQUENCY_LIMITED", Busy),
        (CreateRefund, 400, "BIZ_ERR_NEED_RETRY", Unknown),
        (CreateRefund, 500, "SYSTEM_ERROR", Unknown),
        (QueryRefund, 404, "RESOURCE_NOT_EXISTS", Claimed(Claim::Absent)),
        (QueryRefund, 404, "MCH_NOT_EXISTS", Misconfigured),
        // Certificates of a merchant who has none.
        (Certificates, 404, "RESOURCE_NOT_EXISTS", Claimed(Claim::Absent)),
        // Codes nobody has documented.
        (CloseOrder, 400, "SOMETHING_NEW", Refused),
        (CloseOrder, 202, "SOMETHING_NEW", Unknown),
        (QueryOrder, 401, "SOMETHING_NEW", Misconfigured),
        (CreateOrder, 403, "SOMETHING_NEW", Misconfigured),
        (QueryOrder, 429, "SOMETHING_NEW", Busy),
        (QueryOrder, 302, "SOMETHING_NEW", Unknown),
    ];
    for (call, status, code, expected) in rows {
        assert_eq!(class(*call, *status, code), *expected, "{call:?} {status} {code}");
    }
}

#[test]
fn an_answer_that_is_no_wechat_error_proves_nothing() {
    for call in Call::ALL {
        for status in [202, 301, 400, 401, 403, 404, 500, 502, 503] {
            for body in ["", "<html>502</html>", "{}", "[]", "\"ORDERPAID\"", "{\"code\":1}"] {
                let answer = Inconclusive::from_answer(call, status, None, body.as_bytes());
                assert_eq!(answer.class, Class::Unknown, "{call:?} {status} {body}");
            }
        }
        let busy = Inconclusive::from_answer(call, 429, None, b"<html>");
        assert_eq!(busy.class, Class::Busy);
    }
}

#[test]
fn words_for_people_leave_the_value_out() {
    let body = json!({"code": "PARAM_ERROR", "message": "bad", "detail":
        {"location": "body", "field": "/payer/openid", "value": "o-secret", "issue": "too short"}});
    let answer = Inconclusive::from_answer(Call::CreateOrder, 400, None, body.to_string().as_bytes());
    assert_eq!(answer.to_string(), "create_order refused, HTTP 400 PARAM_ERROR: bad; body; /payer/openid; too short");
}

#[test]
fn odd_company_does_not_hide_the_code() {
    for body in [
        r#"{"code":"ORDERPAID"}"#,
        r#"{"code":"ORDERPAID","message":null,"detail":"text"}"#,
        r#"{"code":"ORDERPAID","message":"","detail":[{"issue":1}]}"#,
    ] {
        let answer = Inconclusive::from_answer(Call::CloseOrder, 400, None, body.as_bytes());
        assert_eq!(answer.class, Class::Claimed(Claim::Paid), "{body}");
    }
}

proptest! {
    #[test]
    fn any_answer_has_a_class(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
        for call in Call::ALL {
            let _ = Inconclusive::from_answer(call, status, None, &body).to_string();
        }
    }
}

#[test]
fn a_code_without_end_does_not_fill_the_log() {
    let body = json!({"code": "C".repeat(100_000)}).to_string();
    let answer = Inconclusive::from_answer(Call::CreateRefund, 400, None, body.as_bytes());
    assert_eq!(answer.code, Some("C".repeat(64)));
}

/// E2: an unsigned error's words can be stored and logged, whatever a gateway wrote.
#[test]
fn e2_an_unsigned_errors_words_are_plain() {
    let body = json!({"code": "SYSTEM\u{0}ERROR\u{1b}[31m", "message": "down\u{0}\n\u{202E}again", "detail": {"field": "\u{0}"}});
    let doubt = Inconclusive::from_answer(Call::CreateRefund, 500, None, body.to_string().as_bytes());
    assert_eq!(doubt.class, Class::Unknown);
    assert_eq!(doubt.code.as_deref(), Some("SYSTEM\u{FFFD}ERROR\u{FFFD}[31m"));
    assert_eq!(doubt.detail, "down\u{FFFD}\u{FFFD}\u{FFFD}again; \u{FFFD}");
}
