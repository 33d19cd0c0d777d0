//! Least privilege. That each process can do its work under its own account is shown by every test with a stack, since
//! that is how the stack starts them; here is what the accounts cannot do.

use lapin::{
    Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::stack::{
    Choice, Stack,
    server_resources::{account, database_url},
};

const KINDS: [&str; 9] =
    ["ingress", "desk", "seats", "prepay", "payments", "expiry", "refunds", "notifications", "reconcile"];
/// The tables that hold orders, seats, money and the proof of it.
const BOOKS: [&str; 14] = [
    "payment_orders",
    "payment_transactions",
    "payment_audit_log",
    "seat_reservations",
    "free_seats",
    "bookings",
    "refunds",
    "cases",
    "notifications",
    "wechat_callbacks",
    "users",
    "waitlist",
    "course_schedules",
    "order_overrides",
];

async fn empty_stack(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: Vec::new(), ..Choice::default() }).await
}

async fn as_role(stack: &Stack, kind: &str) -> PgConnection {
    PgConnection::connect(&account(&database_url(&stack.name), kind)).await.expect("PostgreSQL")
}

/// Runs a statement as this role; it must be refused for want of the right, before it looks at a single row.
async fn denied(role: &mut PgConnection, kind: &str, statement: String) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(role).await;
    let Err(error) = done else { panic!("{kind} may do this: {statement}") };
    let code = error.as_database_error().and_then(|refusal| refusal.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("42501"), "{kind}, {statement}: {error}");
    // The log's own triggers would refuse it to anybody, later.
    assert!(!error.to_string().contains("is append-only"), "{kind}, {statement}: {error}");
}

/// Whoever reads logs at night must not learn to overlook errors.
#[tokio::test]
async fn s6_4_what_an_account_may_not_do_is_no_error_at_a_start() {
    let mut stack = Stack::start_with("rights-start", Choice::default()).await;
    let schedule = stack.add_schedule(1).await;
    let (token, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.until_status(&token, &order, "confirmed").await;
    for role in stack.roles().collect::<Vec<_>>() {
        assert_eq!(stack.terminate(role).await.code(), Some(0), "{role}");
        let log = std::fs::read_to_string(stack.log(role)).expect("a log");
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
        assert!(errors.is_empty(), "{role}: {errors:#?}");
    }
}

#[tokio::test]
async fn s6_4_nobody_but_its_owner_can_change_or_delete_the_audit_log() {
    let stack = empty_stack("rights-audit-log").await;
    let month: String = sqlx::query_scalar(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'payment_audit_log'::regclass",
    )
    .fetch_one(&stack.db)
    .await
    .expect("a partition");
    for kind in KINDS {
        let mut role = as_role(&stack, kind).await;
        for table in ["payment_audit_log", &month, "audit_log_pruned", "dead_letter_acts"] {
            let change = if table == "dead_letter_acts" { "reason = ''" } else { "order_id = ''" };
            denied(&mut role, kind, format!("UPDATE {table} SET {change}")).await;
            denied(&mut role, kind, format!("DELETE FROM {table}")).await;
            denied(&mut role, kind, format!("TRUNCATE {table}")).await;
            denied(&mut role, kind, format!("ALTER TABLE {table} DISABLE TRIGGER ALL")).await;
            denied(&mut role, kind, format!("DROP TABLE {table}")).await;
        }
        denied(&mut role, kind, "ALTER FUNCTION audit_log_is_append_only() RENAME TO gone".into()).await;
        denied(&mut role, kind, "SET session_replication_role = replica".into()).await;
    }
}

#[tokio::test]
async fn s6_4_the_ingress_writes_nothing_but_the_trace_and_reads_nothing_personal() {
    let stack = empty_stack("rights-ingress").await;
    // With a column that a statement may name.
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT ON (c.oid) c.relname::text, a.attname::text
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = ''
          WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')",
    )
    .fetch_all(&stack.db)
    .await
    .expect("the tables");
    assert!(tables.len() > BOOKS.len());
    let mut ingress = as_role(&stack, "ingress").await;
    for (table, column) in &tables {
        if table != "order_trace" {
            denied(&mut ingress, "ingress", format!("INSERT INTO {table} DEFAULT VALUES")).await;
        }
        denied(&mut ingress, "ingress", format!("DELETE FROM {table}")).await;
        denied(&mut ingress, "ingress", format!("TRUNCATE {table}")).await;
        denied(&mut ingress, "ingress", format!("UPDATE {table} SET {column} = {column}")).await;
    }
    for secret in ["users", "dead_letters"] {
        denied(&mut ingress, "ingress", format!("SELECT * FROM {secret}")).await;
    }
}

#[tokio::test]
async fn s6_4_no_worker_reaches_beyond_its_work() {
    let stack = empty_stack("rights-workers").await;
    for kind in KINDS {
        let mut role = as_role(&stack, kind).await;
        for statement in ["CREATE TABLE mine (a integer)", "CREATE ROLE mine", "COPY payment_orders TO PROGRAM 'cat'"] {
            denied(&mut role, kind, statement.into()).await;
        }
        for table in BOOKS {
            denied(&mut role, kind, format!("TRUNCATE {table}")).await;
            if table != "free_seats" {
                denied(&mut role, kind, format!("DELETE FROM {table}")).await;
            }
        }
        // Prices are written once, when a session is added.
        denied(&mut role, kind, "UPDATE course_schedules SET price_fen = 1".into()).await;
        if kind != "reconcile" {
            denied(&mut role, kind, "CREATE TEMPORARY TABLE mine (a integer)".into()).await;
            denied(&mut role, kind, "SELECT audit_log_make_partitions(1)".into()).await;
            denied(&mut role, kind, "UPDATE book_days SET error = ''".into()).await;
        }
    }
    for (kind, statement) in [
        ("seats", "INSERT INTO payment_transactions DEFAULT VALUES"),
        ("seats", "INSERT INTO refunds DEFAULT VALUES"),
        ("prepay", "INSERT INTO payment_transactions DEFAULT VALUES"),
        ("prepay", "INSERT INTO bookings DEFAULT VALUES"),
        ("prepay", "UPDATE seat_reservations SET status = 'confirmed'"),
        ("payments", "SELECT * FROM users"),
        ("payments", "INSERT INTO order_overrides DEFAULT VALUES"),
        ("expiry", "SELECT * FROM users"),
        ("expiry", "INSERT INTO order_overrides DEFAULT VALUES"),
        ("refunds", "INSERT INTO payment_transactions DEFAULT VALUES"),
        ("refunds", "SELECT * FROM dead_letters"),
        ("notifications", "UPDATE payment_orders SET status = 'confirmed'"),
        ("notifications", "INSERT INTO refunds DEFAULT VALUES"),
        ("reconcile", "UPDATE payment_orders SET status = 'confirmed'"),
        ("reconcile", "UPDATE refunds SET status = 'succeeded'"),
        ("desk", "UPDATE payment_orders SET status = 'confirmed'"),
        ("desk", "INSERT INTO payment_audit_log DEFAULT VALUES"),
        ("desk", "INSERT INTO refunds DEFAULT VALUES"),
        ("desk", "INSERT INTO bookings DEFAULT VALUES"),
    ] {
        denied(&mut as_role(&stack, kind).await, kind, statement.into()).await;
    }
}

#[tokio::test]
async fn s6_4_a_brokers_user_takes_from_its_own_queues_and_declares_nothing() {
    let stack = empty_stack("rights-broker").await;
    let permissions: Value =
        serde_json::from_str(include_str!("../../rabbitmq/permissions.json")).expect("permissions");
    let users: Vec<&str> =
        permissions["permissions"].as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap()).collect();
    // Where each of them may read; the API reads the dead letters.
    let own = |kind: &str, queue: &str| match kind {
        "api" => queue.ends_with(".dead"),
        "seats" => queue.starts_with("orders.") && queue != "orders.dead",
        _ => queue == kind,
    };
    let queues = ["orders.0", "prepay", "payments", "expiry", "refunds", "notifications", "orders.dead", "delay.1s"];
    for user in users {
        let kind = user.strip_prefix("holdfast_").unwrap();
        // Declares what was lost, and looks into every queue: the one account with rights over the whole virtual host.
        if kind == "reconcile" {
            continue;
        }
        let broker = Broker::of(&stack, kind).await;
        for queue in queues {
            let read = broker.get(queue).await;
            if own(kind, queue) {
                // 405: of several consumers one is active, and a single question is none.
                assert!([None, Some(405)].contains(&read), "{user} takes from {queue}: {read:?}");
            } else {
                assert_eq!(read, Some(403), "{user} takes from {queue}");
                assert_eq!(broker.consume(queue).await, Some(403), "{user} consumes {queue}");
                assert_eq!(broker.purge(queue).await, Some(403), "{user} empties {queue}");
            }
            assert_eq!(broker.delete(queue).await, Some(403), "{user} deletes {queue}");
        }
        assert_eq!(broker.declare("mine").await, Some(403), "{user} declares a queue");
        assert_eq!(broker.publish("").await, None, "{user} publishes");
        let delayed = (kind == "api").then_some(403);
        assert_eq!(broker.publish("delay.1s").await, delayed, "{user} publishes with a delay");
        assert_eq!(broker.publish("amq.fanout").await, Some(403), "{user} publishes elsewhere");
    }
}

/// A connection of one user's, each question on a channel of its own: the broker closes it on a refusal. Answers the
/// refusal's code.
struct Broker(Connection);

impl Broker {
    async fn of(stack: &Stack, kind: &str) -> Self {
        let url = account(&stack.amqp_url, kind);
        Self(Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker"))
    }

    async fn channel(&self) -> lapin::Channel {
        self.0.create_channel().await.expect("a channel")
    }

    async fn get(&self, queue: &str) -> Option<u16> {
        code(self.channel().await.basic_get(queue.into(), BasicGetOptions::default()).await)
    }

    async fn consume(&self, queue: &str) -> Option<u16> {
        let consumer = self.channel().await;
        let options = BasicConsumeOptions::default();
        code(consumer.basic_consume(queue.into(), "thief".into(), options, FieldTable::default()).await)
    }

    async fn purge(&self, queue: &str) -> Option<u16> {
        code(self.channel().await.queue_purge(queue.into(), QueuePurgeOptions::default()).await)
    }

    async fn delete(&self, queue: &str) -> Option<u16> {
        code(self.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await)
    }

    async fn declare(&self, queue: &str) -> Option<u16> {
        let options = QueueDeclareOptions::default();
        code(self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await)
    }

    /// A message that finds no queue.
    async fn publish(&self, exchange: &str) -> Option<u16> {
        let channel = self.channel().await;
        channel.confirm_select(Default::default()).await.expect("confirms");
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish(exchange.into(), "nowhere".into(), options, b"{}", Default::default());
        match published.await {
            Ok(confirm) => code(confirm.await),
            Err(error) => code::<()>(Err(error)),
        }
    }
}

fn code<T>(answer: Result<T, lapin::Error>) -> Option<u16> {
    let error = answer.err()?;
    match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => Some(refusal.get_id()),
        other => panic!("no refusal: {other:?}"),
    }
}
