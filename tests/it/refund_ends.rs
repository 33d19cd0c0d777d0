//! Refunds about which a person decides: they wait for the person, end with the case, and block nothing.

use holdfast::{
    api::Role,
    domain::{case::CaseKind, money::Fen},
    store::{Database, Plans, case},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    metrics::Counts,
    refunds::with_a_booking,
    stack::{
        Answer, Choice, PRICE_FEN, Stack,
        server_resources::{account, database_url},
        until,
    },
};

impl Stack {
    /// The open case about a refund.
    pub(crate) async fn case_of(&self, refund: &str) -> String {
        until("a case is open", async || {
            sqlx::query_scalar("SELECT case_id::text FROM cases WHERE subject = $1 AND status = 'open'")
                .bind(refund)
                .fetch_optional(&self.db)
                .await
                .expect("a look")
        })
        .await
    }

    async fn refuse_refunds(&self, count: Option<u32>) {
        let rule = json!({ "on": "refund", "status": 400, "code": "INVALID_REQUEST", "count": count.unwrap_or(1_000) });
        self.script(&json!({ "rules": [rule] })).await;
    }

    /// An old message about this refund is handled to its end.
    async fn old_message(&self, refund: &str) {
        let done = async || Counts::of_worker(self, "refunds").await.sum("messages_total", &[("outcome", "done")]);
        let before = done().await;
        self.lay_refund_due(refund).await;
        until("the old message is handled", async || (done().await > before).then_some(())).await;
    }

    async fn refunds_at_wechat(&self) -> usize {
        self.ledger().await["refunds"].as_array().map_or(0, Vec::len)
    }

    async fn close_case(&self, case: &str, words: &[&str]) -> (i32, String) {
        let mut arguments = vec!["case", "close", case, "--resolution", "given back over the counter", "--as", "olga"];
        arguments.extend_from_slice(words);
        let (code, _, stderr) = self.holdfast(&arguments).await;
        (code, stderr)
    }
}

/// B1: closing the case of a refund that WeChat refuses ends the refund, and nothing sends it afterwards.
#[tokio::test]
async fn closing_a_case_as_paid_by_hand_ends_its_refund() {
    let (stack, ann, order) = with_a_booking("refund_by_hand").await;
    stack.refuse_refunds(None).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    let case = stack.case_of(&refund).await;
    stack.script(&json!({})).await;

    // WeChat would take it now: neither an old message nor the sweep sends it while a person decides.
    stack.old_message(&refund).await;
    stack.until_count("it is not swept", "SELECT count(*) FROM refunds WHERE next_check_at IS NULL", 1).await;
    assert_eq!(stack.refunds_at_wechat().await, 0);

    let (code, words) = stack.close_case(&case, &[]).await;
    assert!(code == 2 && words.contains("--paid-by-hand") && words.contains(&refund), "{code} {words}");
    let operator = stack.token_of_role("olga", Role::Operator);
    let close = async |body: Value| {
        let path = format!("/v1/ops/cases/{case}/close");
        Answer::of(stack.request(Method::POST, &path).bearer_auth(&operator).json(&body)).await
    };
    assert_eq!(close(json!({ "resolution": "x" })).await.problem(), "invalid-request");
    let both = json!({ "resolution": "x", "paid_by_hand": "r-1", "not_owed": true });
    assert_eq!(close(both).await.problem(), "invalid-request");
    stack.until_refund(&refund, "requested").await;

    let closed = close(json!({ "resolution": "over the counter", "paid_by_hand": "cash-17" })).await;
    assert_eq!((closed.status, &closed.body["status"]), (StatusCode::OK, &json!("closed")), "{}", closed.body);
    assert_eq!(closed.body["owed_refund_id"], Value::Null);
    stack.until_refund(&refund, "paid_by_hand").await;
    let refunded = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(refunded["refunded_fen"], PRICE_FEN);
    let (actor, reason) = stack.audited(&order, "refund_paid_by_hand").await;
    assert_eq!((&*actor, reason.as_deref()), ("operator:olga", Some("over the counter (receipt cash-17)")));
    assert_eq!(close(json!({ "resolution": "again" })).await.problem(), "case-closed");

    stack.old_message(&refund).await;
    assert_eq!(stack.refunds_at_wechat().await, 0, "paid by hand, and by nobody else");
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.check_money().await;
}

/// B1: a refund that is not owed gives its promise back; of an order that was to go back whole it is the end.
#[tokio::test]
async fn closing_a_case_as_not_owed_gives_the_promise_back() {
    let (stack, ann, order) = with_a_booking("refund_not_owed").await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": "USER_ACCOUNT_ABNORMAL" }] })).await;
    let part = stack.lay_refund(&order, "part", Some(5_000)).await;
    let case = stack.case_of(&part).await;
    let (code, words) = stack.close_case(&case, &["--not-owed"]).await;
    assert_eq!(code, 0, "{words}");
    stack.until_refund(&part, "not_owed").await;
    stack.until_count("all is left again", "SELECT refund_promised_fen FROM payment_orders", 0).await;

    let all = stack.lay_refund(&order, "all", None).await;
    let case = stack.case_of(&all).await;
    stack.until_status(&ann, &order, "refunding").await;
    assert_eq!(stack.close_case(&case, &["--not-owed"]).await.0, 0);
    let ended = stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(ended["refunded_fen"], 0);
    stack.old_message(&all).await;
    assert_eq!(stack.refunds_at_wechat().await, 0);
    stack.check_money().await;

    // A person finds that it is owed after all: that is a new refund.
    stack.script(&json!({})).await;
    stack.lay_refund(&order, "after-all", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    stack.check_money().await;
}

/// B1: what became of a payment that WeChat gave back after a person had paid by hand is a case, and settles nothing.
#[tokio::test]
async fn a_refund_that_arrives_after_it_was_paid_by_hand_is_a_case() {
    let (stack, ann, order) = with_a_booking("refund_twice").await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": "ABNORMAL" }] })).await;
    let refund = stack.lay_refund(&order, "all", None).await;
    stack.until_refund(&refund, "abnormal").await;
    let case = stack.case_of(&refund).await;
    assert_eq!(stack.close_case(&case, &["--paid-by-hand", "cash 18"]).await.0, 0);
    stack.until_status(&ann, &order, "refunded").await;
    stack.until_count("the case is closed", "SELECT count(*) FROM cases WHERE status = 'open'", 0).await;
    // Its month of the audit log waits for nothing any more.
    stack
        .until_count(
            "nothing is unfinished",
            "SELECT count(*) FROM refunds WHERE status IN ('requested', 'abnormal')",
            0,
        )
        .await;
}

/// B1: flags that end a refund are refused for a case that is about none.
#[tokio::test]
async fn a_case_about_no_refund_ends_none() {
    let (stack, _, order) = with_a_booking("case_without_refund").await;
    sqlx::query("INSERT INTO cases (kind, subject, order_id) VALUES ('paid_twice', 'T-1', $1)")
        .bind(&order)
        .execute(&stack.db)
        .await
        .expect("a case");
    let case = stack.case_of("T-1").await;
    let (code, words) = stack.close_case(&case, &["--not-owed"]).await;
    assert!(code == 2 && words.contains("no refund"), "{code} {words}");
    assert_eq!(stack.close_case(&case, &[]).await.0, 0);
}

/// B1: an operator's account ends refunds by this one door, which an open case must hold open.
#[tokio::test]
async fn an_operators_account_ends_no_refund_without_its_case() {
    let (stack, _, order) = with_a_booking("refund_end_rights").await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": { "slow_ms": 600_000 } }] })).await;
    let refund = stack.lay_refund(&order, "part", Some(5_000)).await;
    stack.until_refund(&refund, "processing").await;
    let mut desk = PgConnection::connect(&account(&database_url(&stack.name), "desk")).await.expect("PostgreSQL");
    let ended = sqlx::query(
        "SELECT refund_end_by_person($1, 'not_owed', NULL, 'confirmed', now(), 'refund_not_owed', 'operator:eve', 'x',
                                     NULL, '{}', '')",
    )
    .bind(&refund)
    .execute(&mut desk)
    .await;
    let code =
        ended.expect_err("refused").as_database_error().and_then(|error| error.code().map(|code| code.to_string()));
    assert_eq!(code.as_deref(), Some("42501"));
}

/// B2: a refund that waits for a person blocks no later refund of the order.
#[tokio::test]
async fn a_refused_refund_blocks_no_later_one() {
    let (stack, ann, order) = with_a_booking("refused_blocks_nothing").await;
    stack.refuse_refunds(Some(1)).await;
    let refused = stack.lay_refund(&order, "first", Some(5_000)).await;
    stack.case_of(&refused).await;
    let second = stack.lay_refund(&order, "second", Some(2_000)).await;
    until("the second is refunded", async || {
        stack.lay_refund_due(&second).await;
        (stack.order(&ann, &order).await.body["refunded_fen"] == 2_000).then_some(())
    })
    .await;
    stack.until_refund(&refused, "requested").await;
    assert_eq!(stack.refunds_at_wechat().await, 1);
    stack.check_money().await;
}

/// D5: a case that was closed opens again when its cause returns, and keeps how it was closed before.
#[tokio::test]
async fn a_closed_case_opens_again_when_its_cause_returns() {
    let stack = Stack::start_with("case_returns", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let url = database_url(&stack.name).into();
    let db = Database::open(&url, 2, Plans::Chosen).expect("a pool");
    let meet = async |kind: CaseKind, money: i64| {
        let mut step = db.begin("test").await.expect("a transaction");
        case::open(&mut step, kind, "2026-04-12", None, Fen(money), json!({})).await.expect("a case");
        step.commit().await.expect("a commit");
        stack.count("SELECT count(*) FROM cases WHERE status = 'open'").await
    };
    let close = async || {
        sqlx::query(
            "UPDATE cases SET status = 'closed', closed_at = now(), closed_by = 'operator:olga', resolution = 'seen'",
        )
        .execute(&stack.db)
        .await
        .expect("closed");
    };
    for (kind, same, other) in [(CaseKind::BillMissing, 1, 1), (CaseKind::UnknownOrder, 0, 1)] {
        assert_eq!(meet(kind, 5).await, 1);
        close().await;
        assert_eq!(meet(kind, 5).await, same, "{kind:?} is met again");
        assert_eq!(meet(kind, 6).await, other, "{kind:?} is met with another sum");
        close().await;
    }
    let earlier: Value = sqlx::query_scalar("SELECT earlier FROM cases WHERE kind = 'bill_missing'")
        .fetch_one(&stack.db)
        .await
        .expect("a case");
    assert_eq!((&earlier[0]["closed_by"], &earlier[0]["resolution"]), (&json!("operator:olga"), &json!("seen")));
}
