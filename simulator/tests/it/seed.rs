//! One seed, one run: two simulators of one seed act alike, to the number, whatever the order of requests.

use serde_json::{Value, json};
use wechat_sim::Settings;

use crate::merchant::{APPID, Merchant};

/// A run in which much goes wrong; what came of it, times left out.
async fn run(seed: u64, numbers: Vec<u32>) -> Vec<Value> {
    let mut merchant = Merchant::with(Settings { callback_speed: 1e6, seed, ..Settings::default() }).await;
    merchant
        .script(json!([
            {"on": "order", "rate": 0.3, "status": 500},
            {"on": "callback_payment", "rate": 0.3, "callback": "never"},
            {"on": "callback_payment", "rate": 0.3, "callback": "signtest"},
            {"on": "refund", "rate": 0.3, "refund": "CLOSED"},
            {"on": "template_send", "rate": 0.3, "errcode": 45011},
            {"on": "bill_payment", "rate": 0.3, "bill": "missing"},
        ]))
        .await;
    let mut codes = Vec::new();
    for number in &numbers {
        let number = format!("hf{number:06}");
        let answer = merchant.post("/v3/pay/transactions/native", &merchant.native(&number)).await;
        codes.push(json!([number, answer.json()["code_url"]]));
        let (_, _) = merchant.sim("/_sim/pay", &json!({"out_trade_no": number})).await;
        let refund = json!({
            "out_trade_no": number, "out_refund_no": format!("r{number}"),
            "amount": {"refund": 1, "total": 20000, "currency": "CNY"},
        });
        merchant.post("/v3/refund/domestic/refunds", &refund).await;
    }
    let asked = json!({
        "grant_type": "client_credential", "appid": APPID, "secret": "wechat-sim-official-account-secret",
    });
    let (_, token) = merchant.sim("/cgi-bin/stable_token", &asked).await;
    let send = format!("/cgi-bin/message/template/send?access_token={}", token["access_token"].as_str().unwrap());
    for number in &numbers {
        let message = json!({
            "touser": format!("o{number}"), "template_id": "t", "client_msg_id": "m", "data": {"thing1": {"value": "x"}},
        });
        merchant.sim(&send, &message).await;
    }
    merchant.callbacks_are_done().await;
    let mut callbacks = Vec::new();
    while !merchant.no_callback_waits() {
        let callback = merchant.callback().await;
        callbacks.push(json!([callback.opened()["out_trade_no"], callback.envelope()["id"], callback.is_genuine()]));
    }
    let (_, mut closed) = merchant.sim("/_sim/bill", &json!({})).await;
    let ledger = merchant.ledger().await;
    let mut told = [codes, callbacks, closed["planted"].as_array_mut().unwrap().split_off(0)].concat();
    for (book, members) in [
        ("payments", &["out_trade_no", "transaction_id"][..]),
        ("refunds", &["out_refund_no", "refund_id", "status"]),
        ("messages", &["touser", "msgid"]),
    ] {
        let rows = ledger[book].as_array().unwrap().iter();
        told.extend(rows.map(|row| members.iter().map(|member| row[*member].clone()).collect()));
    }
    told.sort_by_key(Value::to_string);
    told
}

#[tokio::test]
async fn two_runs_of_one_seed_act_alike() {
    let there = run(7, (0..40).collect()).await;
    assert!(there.len() > 100, "{}", there.len());
    assert_eq!(there, run(7, (0..40).rev().collect()).await);
    assert_ne!(there, run(8, (0..40).collect()).await);
}
