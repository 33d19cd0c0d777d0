//! The operators' lists page by page, when many things happened in one moment.

use std::collections::BTreeSet;

use holdfast::api::Role;
use reqwest::Method;
use serde_json::Value;

use crate::stack::{Answer, Choice, Stack};

/// More than two pages of each, all of the same moment.
const MANY: [&str; 4] = [
    "INSERT INTO users (user_id) VALUES ('ann')",
    "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, audit_head,
            submitted_at, updated_at, paid_at, transaction_id, paid_fen, refund_promised_fen)
     SELECT 'hfpage' || n, 'ann', schedule_id, 'refunding', 'native', 20000, '', '', now(), now(), now(), '42-' || n, 20000,
            20000
       FROM generate_series(1, 120) n, course_schedules",
    "INSERT INTO cases (kind, subject, order_id, money_fen)
     SELECT 'refund_refused', order_id || '-auto', order_id, 20000 FROM payment_orders",
    "INSERT INTO order_overrides (override_id, order_id, action, reason, money_fen, status, request_id, proposed_by, outcome,
            settled_at)
     SELECT gen_random_uuid(), order_id, 'confirm', 'r', 20000, 'refused', 'r', 'olga', 'no', now() FROM payment_orders",
];

#[tokio::test]
async fn p4_every_list_of_the_operators_is_read_to_its_end_page_by_page() {
    let stack = Stack::start_with("ops-pages", Choice { roles: vec!["api"], ..Choice::default() }).await;
    stack.add_schedule(1).await;
    for statement in MANY {
        sqlx::query(statement).execute(&stack.db).await.expect("rows");
    }
    let viewer = stack.token_of_role("vera", Role::Viewer);
    let read = async |path: String| Answer::of(stack.request(Method::GET, &path).bearer_auth(&viewer)).await;
    let mut cursors = Vec::new();
    for (list, id) in [("cases", "case_id"), ("overrides", "override_id"), ("money-in-doubt", "order_id")] {
        let (mut sizes, mut seen, mut cursor) = (Vec::new(), BTreeSet::new(), String::new());
        loop {
            let page = read(format!("/v1/ops/{list}?{cursor}")).await.body;
            let items = page["items"].as_array().expect("items");
            sizes.push(items.len());
            seen.extend(items.iter().map(|item| item[id].as_str().expect("an id").to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("cursor={next}");
        }
        assert_eq!((sizes, seen.len()), (vec![50, 50, 20], 120), "{list}: each once");
        assert_eq!(read(format!("/v1/ops/{list}?cursor=x")).await.problem(), "invalid-request");
        cursors.push(cursor);
    }
    for (list, of_another) in [("cases", &cursors[2]), ("overrides", &cursors[2]), ("money-in-doubt", &cursors[0])] {
        let refused = read(format!("/v1/ops/{list}?{of_another}")).await;
        let error: &Value = &refused.body["errors"][0];
        assert_eq!((&error["field"], &error["problem"]), (&"cursor".into(), &"is not a cursor of this list".into()));
    }
}
