//! WeChat's callbacks at the ingress: what is taken, what is refused and why, and what each leaves in the books.

use reqwest::StatusCode;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::{
    forgery::{Forger, Letter, SERIAL, SIGNATURE, TIMESTAMP, paid},
    metrics::Counts,
    stack::{Answer, Choice, PRICE_FEN, Stack, until},
};

/// Every way in which a callback can be wrong before its content is looked at: name, letter, status, counted reason.
fn wrong_letters(stack: &Stack, forger: &Forger) -> Vec<(&'static str, Letter, u16, &'static str)> {
    let now = OffsetDateTime::now_utc();
    let content = paid(stack, "hf000001", "4200000001");
    let good = || forger.callback(&content);
    let signed = |body: String| forger.sign(body, now);
    let sealed = |event: &str, content: &str| forger.envelope(event, content, &forger.apiv3_key);
    let success = "TRANSACTION.SUCCESS";
    let half = |letter: Letter| Letter { body: letter.body[..letter.body.len() / 2].to_owned(), ..letter };
    let other_signature = forger.sign("another body".into(), now).header(SIGNATURE).to_owned();
    let probe = format!("WECHATPAY/SIGNTEST/{}", good().header(SIGNATURE));
    let far = (now + Duration::minutes(6)).unix_timestamp().to_string();
    let envelope_without = |member: &str| {
        let mut envelope: Value = serde_json::from_str(&good().body).expect("JSON");
        envelope.as_object_mut().expect("an object").remove(member);
        signed(envelope.to_string())
    };
    let no_total = {
        let mut content = content.clone();
        content["amount"].as_object_mut().expect("an object").remove("total");
        content
    };
    vec![
        ("signature of something else", good().with(SIGNATURE, &other_signature), 401, "mismatch"),
        ("one byte changed", Letter { body: good().body.replace("支付成功", "支付成公"), ..good() }, 401, "mismatch"),
        ("truncated on the way", half(good()), 401, "mismatch"),
        ("a probe of ours", good().with(SIGNATURE, &probe), 401, "undecodable"),
        ("no signature", good().without(SIGNATURE), 401, "header_missing"),
        ("no timestamp", good().without(TIMESTAMP), 401, "header_missing"),
        ("a timestamp in words", good().with(TIMESTAMP, "today"), 401, "header_unreadable"),
        ("another timestamp", good().with(TIMESTAMP, &(now.unix_timestamp() + 9).to_string()), 401, "mismatch"),
        ("from the future", good().with(TIMESTAMP, &far), 401, "stale"),
        ("a replay", forger.sign(good().body, now - Duration::minutes(5)), 401, "stale"),
        ("an unknown key", good().with(SERIAL, "PUB_KEY_ID_0100000000000000000000000000000001"), 401, "serial_unknown"),
        ("another scheme", good().with("Wechatpay-Signature-Type", "SM2"), 401, "type_unsupported"),
        ("half a document", signed(good().body[..100].to_owned()), 400, "envelope"),
        ("no document", signed(String::new()), 400, "envelope"),
        ("no resource", envelope_without("resource"), 400, "envelope"),
        (
            "sealed with another APIv3 key",
            signed(forger.envelope(success, &content.to_string(), &"k".repeat(32))),
            400,
            "decryption",
        ),
        ("content that is no document", signed(sealed(success, "paid!")), 400, "content"),
        ("content of another kind", signed(sealed(success, "[1]")), 400, "content"),
        ("a refund at the wrong address", signed(sealed("REFUND.SUCCESS", "{}")), 400, "event"),
        ("a payment without its amount", forger.callback(&no_total), 400, "unclear"),
        ("more than a ciphertext may have", signed("x".repeat(1100 * 1024)), 413, "too-large"),
    ]
}

#[tokio::test]
async fn s4_1_what_is_not_wechats_word_is_refused_told_and_counted() {
    let stack = Stack::start_with("webhook-refused", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let forger = Forger::of(&stack);
    let rows = wrong_letters(&stack, &forger);
    for (name, letter, status, _) in &rows {
        let answer = Answer::of(letter.to(&stack, "payments")).await;
        assert_eq!(answer.status.as_u16(), *status, "{name}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/json", "{name}");
        assert_eq!(answer.body["code"], "FAIL", "{name}");
        assert!(answer.body["message"].as_str().is_some_and(|words| !words.is_empty()), "{name}");
    }
    let counts = Counts::of_api(&stack).await;
    for (name, _, _, reason) in &rows {
        let labels = [("kind", "payment"), ("outcome", "refused"), ("reason", *reason)];
        let expected = rows.iter().filter(|row| row.3 == *reason).count() as u64;
        assert_eq!(counts.sum("wechat_callbacks_total", &labels), expected, "{name}: {reason}");
    }
    assert_eq!(stack.ready_in("payments").await, 0);
    let refund = forger.sign(forger.envelope("REFUND.SUCCESS", "{}", &forger.apiv3_key), OffsetDateTime::now_utc());
    let answer = Answer::of(refund.to(&stack, "refunds")).await;
    assert!(!answer.status.is_success(), "what is not kept is not acknowledged: {}", answer.body);
    stack.check_invariants().await;
}

#[tokio::test]
async fn signtest_probe() {
    let stack = Stack::start("webhook-probe").await;
    let schedule = stack.add_schedule(4).await;
    let ann = stack.quick_token("ann");
    for (fault, reason) in [
        ("signtest", "undecodable"),
        ("wrong_signature", "mismatch"),
        ("wrong_key", "serial_unknown"),
        ("replayed", "stale"),
    ] {
        stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": fault, "attempts": 2 }] })).await;
        let order = stack.submit(&ann, &schedule).await;
        stack.until_status(&ann, &order, "awaiting_payment").await;
        assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
        stack.until_status(&ann, &order, "confirmed").await;
        let labels = [("outcome", "refused"), ("reason", reason)];
        assert_eq!(Counts::of_api(&stack).await.sum("wechat_callbacks_total", &labels), 2, "{fault}");
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s4_1_a_payment_that_is_not_the_orders_opens_a_case_and_settles_nothing() {
    let stack = Stack::start("webhook-mismatch").await;
    let forger = Forger::of(&stack);
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    let payable = stack.until_status(&ann, &order, "awaiting_payment").await;
    let rows = [
        ("/amount/total", json!(PRICE_FEN - 1), "amount_mismatch"),
        ("/amount/total", json!(PRICE_FEN + 1), "amount_mismatch"),
        ("/amount/currency", json!("USD"), "currency_mismatch"),
        ("/mchid", json!("1900000001"), "mchid_mismatch"),
        ("/appid", json!("wx0000000000000000"), "appid_mismatch"),
    ];
    for (number, (member, value, kind)) in rows.into_iter().enumerate() {
        let transaction_id = format!("420000000{number}");
        let mut content = paid(&stack, &order, &transaction_id);
        *content.pointer_mut(member).expect("a member") = value;
        // Twice: the same fact opens one case.
        for _ in 0..2 {
            let answer = Answer::of(forger.callback(&content).to(&stack, "payments")).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{member}: {}", answer.body);
        }
        let stored: (String, String, i64) = until("the payment is stored", async || {
            sqlx::query_as(
                "SELECT t.status::text, c.kind, c.money_fen FROM payment_transactions t
                   JOIN cases c ON c.subject = t.transaction_id AND c.order_id = t.order_id
                  WHERE t.transaction_id = $1 AND c.status = 'open'",
            )
            .bind(&transaction_id)
            .fetch_optional(&stack.db)
            .await
            .expect("the books")
        })
        .await;
        let total = content["amount"]["total"].as_i64().expect("fen");
        assert_eq!(stored, ("mismatched".into(), kind.into(), total), "{member}");
    }
    assert_eq!(stack.order(&ann, &order).await.body, payable, "nothing has changed");
    // The right payment settles it all the same.
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_transactions").await, 6);
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 5);
    until("ten callbacks and one are counted", async || {
        let counts = Counts::of_worker(&stack, "payments").await;
        let counted = |outcome| counts.sum("payments_total", &[("outcome", outcome)]);
        ((counted("mismatched"), counted("settled")) == (10, 1)).then_some(())
    })
    .await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn s4_1_money_for_an_order_that_nobody_knows_is_a_case() {
    let roles = vec!["api", "payments"];
    let stack = Stack::start_with("webhook-unknown", Choice { roles, ..Choice::default() }).await;
    let forger = Forger::of(&stack);
    for (number, out_trade_no) in ["hf0000000000", "OTHER_SYSTEM|1*", "訂單"].into_iter().enumerate() {
        let letter = forger.callback(&paid(&stack, out_trade_no, &format!("420000000{number}")));
        for _ in 0..2 {
            let answer = Answer::of(letter.to(&stack, "payments")).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
        }
    }
    until("three cases are open", async || {
        let cases = "SELECT count(*) FROM cases WHERE kind = 'unknown_order' AND status = 'open' AND money_fen = 20000";
        (stack.count(cases).await == 3).then_some(())
    })
    .await;
    // An event and a state that mean nothing to us end the re-sending, and are counted.
    let now = OffsetDateTime::now_utc();
    let mut unpaid = paid(&stack, "hf0000000000", "4200000009");
    unpaid["trade_state"] = json!("NOTPAY");
    let mut closed = paid(&stack, "hf0000000000", "4200000009");
    closed["trade_state"] = json!("CLOSED");
    let strange = forger.sign(forger.envelope("MARKET.NEWS", "{}", &forger.apiv3_key), now);
    for letter in [forger.callback(&unpaid), forger.callback(&closed), strange] {
        assert_eq!(Answer::of(letter.to(&stack, "payments")).await.status, StatusCode::NO_CONTENT);
    }
    let counts = Counts::of_api(&stack).await;
    let counted = |outcome, reason| counts.sum("wechat_callbacks_total", &[("outcome", outcome), ("reason", reason)]);
    assert_eq!(counted("published", ""), 6);
    assert_eq!(["unpaid", "closed", "event"].map(|why| counted("ignored", why)), [1, 1, 1]);
    assert_eq!(stack.ready_in("payments.dead").await, 0);
    stack.check_invariants().await;
}
