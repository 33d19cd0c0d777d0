//! A simulator that is started again remembers its books, and goes on with what was under way.

use std::{fs::File, io::Write as _};

use axum::http::StatusCode;
use serde_json::json;
use wechat_sim::Settings;

use crate::merchant::{APPID, Merchant};

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let state = std::env::temp_dir().join(format!("wechat-sim-journal-{}", std::process::id()));
    let settings = Settings { state: Some(state.clone()), ..Settings::default() };
    let mut merchant = Merchant::with(settings.clone()).await;
    let open_code = merchant.ordered("hf-open").await;
    merchant.ordered("hf-closed").await;
    merchant.close("hf-closed").await;
    merchant.answers.lock().unwrap().push(StatusCode::SERVICE_UNAVAILABLE);
    let transaction_id = merchant.paid("hf-paid").await;
    let refused = merchant.callback().await;
    merchant.script(json!([{"on": "refund", "refund": {"slow_ms": 3_600_000}}])).await;
    let refund = json!({
        "transaction_id": transaction_id, "out_refund_no": "rf1", "notify_url": merchant.notify_url,
        "amount": {"refund": 5, "total": 20000, "currency": "CNY"},
    });
    assert_eq!(merchant.post("/v3/refund/domestic/refunds", &refund).await.status, 200);
    let asked = json!({
        "grant_type": "client_credential", "appid": APPID, "secret": "wechat-sim-official-account-secret",
    });
    let (_, token) = merchant.sim("/cgi-bin/stable_token", &asked).await;
    let send = format!("/cgi-bin/message/template/send?access_token={}", token["access_token"].as_str().unwrap());
    let message = json!({
        "touser": "o1", "template_id": "t", "client_msg_id": "m1", "data": {"thing1": {"value": "x"}},
    });
    let (_, sent) = merchant.sim(&send, &message).await;
    let ledger = merchant.ledger().await;

    // What was being written when it was killed: half a line.
    File::options().append(true).open(&state).unwrap().write_all(b"{\"order\":{\"numb").unwrap();
    merchant.restart(settings.clone()).await;
    assert_eq!(merchant.ledger().await, ledger);
    assert_eq!(merchant.sim(&send, &message).await.1, sent, "token and message are known");
    assert_eq!(merchant.query("hf-paid").await.json()["trade_state"], "REFUND");
    assert_ne!(merchant.ordered("hf-open").await, open_code);
    assert_eq!(merchant.sim("/_sim/pay", &json!({"code_url": open_code})).await.1["reason"], "code-replaced");

    merchant.sim("/_sim/clock", &json!({"advance_seconds": 20})).await;
    let again = merchant.callback().await;
    assert_eq!(again.body, refused.body, "the callback nobody accepted comes again");
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 3600})).await;
    assert_eq!(merchant.callback().await.opened()["out_refund_no"], "rf1");
    let other = merchant.paid("hf-other").await;
    assert_ne!(other, transaction_id);
    merchant.callback().await;

    let ledger = merchant.ledger().await;
    merchant.restart(settings).await;
    assert_eq!(merchant.ledger().await, ledger, "a third life too");
    std::fs::remove_file(state).unwrap();
}

#[tokio::test]
async fn a_journal_that_is_none_is_refused() {
    let state = std::env::temp_dir().join(format!("wechat-sim-nonsense-{}", std::process::id()));
    std::fs::write(&state, "nonsense\n").unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings { state: Some(state.clone()), ..Settings::default() };
    let reason = wechat_sim::start(settings, crate::merchant::KEYS.clone(), listener).unwrap_err();
    assert!(format!("{reason:#}").contains("line 1"), "{reason:#}");
    std::fs::remove_file(state).unwrap();
}
