//! Personal data under a new key: batch by batch, to be gone on with after an interruption, and never without the key
//! that it needs.

use holdfast::{
    domain::{ids::UserId, message::Openid},
    store::{
        Database, Plans,
        reseal::{self, Place, SealedBy},
        sealed::PersonalKeys,
        user,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stack::{
    Choice, Stack,
    server_resources::{database_url, drop_database, make_database},
};

const APRIL: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const MAY: &str = "bm90IHNvIHJhbmRvbSwgYnV0IDMyIGJ5dGVzIGxvbmc=";

fn keys(text: &str) -> PersonalKeys {
    PersonalKeys::parse(&text.into()).expect("keys")
}

/// Users with openids, sealed with the first of these keys.
async fn users(db: &Database, keys: &PersonalKeys, name: &str, count: usize) {
    let user = |number| UserId::try_from(format!("{name}-{number}")).expect("an id");
    let users: Vec<(UserId, Openid)> = (0..count).map(|number| (user(number), Openid(format!("o-{number}")))).collect();
    let mut step = db.begin("users").await.expect("a transaction");
    user::upsert(&mut step, keys, users.iter().map(|(user, openid)| (user, Some(openid)))).await.expect("entered");
    step.commit().await.expect("committed");
}

async fn census(db: &Database) -> Vec<(String, i64, i64)> {
    let told = |SealedBy { name, openids, dead_letters }| (name, openids, dead_letters);
    reseal::census(db.pool()).await.expect("a census").into_iter().map(told).collect()
}

/// Every batch of one place; how many there were, and how many values.
async fn reseal_all(db: &Database, keys: &PersonalKeys, place: Place) -> (usize, u64) {
    let (mut after, mut batches, mut resealed) = (Some(String::new()), 0, 0);
    while let Some(begin) = after {
        let batch = reseal::batch(db, keys, place, &begin).await.expect("a batch");
        assert_eq!(batch.closed, []);
        resealed += batch.resealed;
        batches += usize::from(batch.next.is_some());
        after = batch.next;
    }
    (batches, resealed)
}

#[tokio::test]
async fn s6_4_personal_data_is_sealed_anew_in_batches_that_can_be_interrupted() {
    let name = format!("hf_{}", Uuid::now_v7().simple());
    let pool = make_database(&name).await;
    let db = Database::open(&database_url(&name).into(), 4, Plans::Chosen).expect("a readable URL");
    db.migrate().await.expect("the schema");
    let (april, both, may) =
        (keys(APRIL), keys(&format!("may {MAY}\n{APRIL}")), keys(&format!("may {MAY}\nspare {APRIL}")));
    users(&db, &april, "early", 1_100).await;
    users(&db, &both, "late", 3).await;
    // The catalogue's bodies are sealed alike: for their letter's name.
    sqlx::query(
        "INSERT INTO dead_letters (letter_id, queue, kind, error_class, error, cause, attempt, failed_at, headers, shown, sealed)
         SELECT user_id, 'prepay.dead', 'order.held', 'bug', '', '', 1, now(), '{}', '', openid FROM users
          WHERE user_id IN ('early-1', 'early-2')",
    )
    .execute(&pool)
    .await
    .expect("letters");
    assert_eq!(census(&db).await, [(String::new(), 1_100, 2), ("may".into(), 3, 0)]);

    let closed = reseal::batch(&db, &may, Place::Openids, "").await.expect("a batch");
    assert_eq!((closed.resealed, closed.closed.len()), (0, 500), "nothing opens without the key that sealed it");
    assert!(closed.closed[0].1.to_string().contains("the key without a name"));

    let first = reseal::batch(&db, &both, Place::Openids, "").await.expect("a batch");
    assert_eq!(first.resealed, 500);
    // Interrupted here; begun anew, it goes on with what is left.
    assert_eq!(census(&db).await, [(String::new(), 600, 2), ("may".into(), 503, 0)]);
    assert_eq!(reseal_all(&db, &both, Place::Openids).await, (2, 600));
    assert_eq!(reseal_all(&db, &both, Place::DeadLetters).await, (1, 2));
    assert_eq!(reseal_all(&db, &both, Place::Openids).await, (0, 0), "once is enough");
    assert_eq!(census(&db).await, [("may".to_owned(), 1_103, 2)]);
    drop_database(&name).await;
}

#[tokio::test]
async fn s6_4_nobody_begins_without_a_key_that_is_needed() {
    let mut stack = Stack::start_with("keys", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let db = Database::open(&database_url(&stack.name).into(), 2, Plans::Chosen).expect("a readable URL");
    users(&db, &keys(APRIL), "ann", 2).await;
    let list = async |stack: &Stack| {
        let (code, listed, _) = stack.holdfast(&["keys", "list", "--json"]).await;
        let listed: Value = serde_json::from_str(&listed).expect("one document");
        let items = listed["items"].as_array().expect("items").iter();
        let personal = items.filter(|item| item["keys"] == "personal");
        (code, personal.map(|item| json!([item["name"], item["use"], item["openids"]])).collect::<Vec<_>>())
    };
    assert_eq!(list(&stack).await, (0, vec![json!([null, "in_force", 2])]));

    stack.environment.insert("HOLDFAST_PERSONAL__KEY".into(), format!("may {MAY}"));
    assert_eq!(list(&stack).await, (1, vec![json!(["may", "in_force", 0]), json!([null, "missing", 2])]));
    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("one document");
    let sealed = report["items"].as_array().expect("items").iter().find(|item| item["name"] == "sealed_opens");
    assert_eq!((code, &sealed.expect("the item")["broken"]), (1, &json!(2)));
    for worker in ["seats", "notifications"] {
        let (code, _, told) = stack.holdfast(&["worker", worker]).await;
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("lacks the key without a name, which sealed 2 openids"), "{told}");
    }
    let (code, _, told) = stack.holdfast(&["keys", "reseal"]).await;
    assert_eq!(code, 1, "{told}");

    stack.environment.insert("HOLDFAST_PERSONAL__KEY".into(), format!("may {MAY}\n{APRIL}"));
    stack.holdfast_ok(&["keys", "reseal"]).await;
    stack.environment.insert("HOLDFAST_PERSONAL__KEY".into(), format!("may {MAY}"));
    assert_eq!(list(&stack).await, (0, vec![json!(["may", "in_force", 2])]));
}
