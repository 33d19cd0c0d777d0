//! Retention of the audit log: whole months go, what still matters stays, and the rest can be proved all the same.

use serde_json::{Value, json};

use crate::{
    stack::{Stack, until},
    story::hasty,
};

impl Stack {
    async fn prune(&self, more: &[&str]) -> Value {
        let arguments: Vec<&str> = ["audit", "prune", "--json"].into_iter().chain(more.iter().copied()).collect();
        serde_json::from_str(&self.holdfast_ok(&arguments).await).expect("one JSON document")
    }
}

#[tokio::test]
async fn s1_4_old_months_go_unless_an_order_of_theirs_is_unfinished() {
    let stack = hasty("retention", 600, 1200).await;
    let schedule = stack.add_schedule(9).await;
    let (_, whole) = stack.booked("ann", &schedule).await;
    let (_, half) = stack.booked("bob", &schedule).await;
    let (_, unpaid) = stack.payable("cid", &schedule).await;
    let told = "SELECT count(*) FROM notifications WHERE status <> 'sent'";
    until("everybody is told", async || (stack.count(told).await == 0).then_some(())).await;
    stack.long_ago(&whole, 99).await;
    stack.long_ago(&half, 2).await;
    stack.long_ago(&unpaid, 1).await;

    let kept = stack.prune(&[]).await;
    assert_eq!(kept["items"][0]["kept"], json!({ "unfinished": 1 }), "{kept}");
    stack.cancel(&stack.quick_token("cid"), &unpaid).await;
    stack.until_status(&stack.quick_token("cid"), &unpaid, "cancelled").await;
    sqlx::query("INSERT INTO cases (kind, subject, order_id) VALUES ('test', 'test', $1)")
        .bind(&whole)
        .execute(&stack.db)
        .await
        .expect("a case");
    assert_eq!(stack.prune(&[]).await["items"][0]["kept"], json!({ "open_cases": 1 }));
    sqlx::query("UPDATE cases SET status = 'closed', resolution = 'ok'").execute(&stack.db).await.expect("closed");

    let would = stack.prune(&["--dry-run"]).await;
    assert_eq!((&would["items"][0]["kept"], &would["items"][0]["orders"]), (&json!(null), &json!(3)));
    assert!(stack.count("SELECT count(*) FROM payment_audit_log_2020_01").await > 0, "nothing was changed");
    assert_eq!(stack.prune(&["--keep-months", "1200"]).await["items"], json!([]));
    let dropped = stack.prune(&[]).await;
    assert_eq!(dropped["items"][0]["partition"], "payment_audit_log_2020_01");
    assert_eq!(stack.prune(&[]).await["items"], json!([]), "gone");

    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert_eq!(code, 0, "what is younger is proved from where the old months ended: {report}");
    // And a head that was tampered with is seen.
    sqlx::query("UPDATE audit_log_pruned SET hash = 'x' WHERE order_id = $1")
        .bind(&half)
        .execute(&stack.db)
        .await
        .expect("x");
    let (code, _, stderr) = stack.holdfast(&["verify"]).await;
    assert_eq!((code, stderr.contains("history_unbroken")), (1, true), "{stderr}");
}
