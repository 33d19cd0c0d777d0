//! A release takes over from the former one, role by role, while people book, pay, cancel and want their money back.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    books::DEAD,
    shoppers::{Doors, Shoppers},
    stack::{Choice, Stack, WORKERS, free_port, until},
};

/// Shoppers on their way at a time, and how many are served between two steps.
const AT_ONCE: usize = 8;
const BETWEEN: usize = 12;
const SEATS: u32 = 500;

/// A column, a nullable column of another table, a table, an index, and labels of enums.
const ADDED_LATER: &str = "
    ALTER TABLE payment_orders ADD COLUMN later_text text, ADD COLUMN later_number bigint DEFAULT 7;
    ALTER TABLE refunds ADD COLUMN later_text text;
    ALTER TABLE notifications ADD COLUMN later_text text;
    ALTER TABLE seat_reservations ADD COLUMN later_text text;
    CREATE TABLE later_table (order_id text REFERENCES payment_orders, what text);
    CREATE INDEX later_index ON payment_orders (later_text) WHERE later_text IS NOT NULL";
const LABELS_ADDED_LATER: [&str; 3] = [
    "ALTER TYPE notification_kind ADD VALUE 'later_kind'",
    "ALTER TYPE order_status ADD VALUE 'later_status'",
    "ALTER TYPE refund_status ADD VALUE 'later_status'",
];

/// A second ingress beside the stack's own, so that one can be replaced while the other answers.
struct SecondIngress {
    address: String,
    process: Child,
}

impl SecondIngress {
    async fn start(stack: &Stack, listen: &str) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(stack.log("api-2")).expect("a log");
        let mut command: Command = stack.command(&["api"]);
        let health = format!("127.0.0.1:{}", free_port().await);
        command.env("HOLDFAST_API__LISTEN", listen).env("HOLDFAST_HEALTH__LISTEN", &health);
        let health = format!("http://{health}");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let second =
            Self { address: format!("http://{listen}"), process: command.spawn().expect("the executable starts") };
        until("the second ingress is ready", async || {
            // The first release tells it on the customers' port.
            for address in [&health, &second.address] {
                let ready = stack.http.get(format!("{address}/readyz")).send().await;
                if ready.is_ok_and(|ready| ready.status().is_success()) {
                    return Some(());
                }
            }
            None
        })
        .await;
        second
    }

    async fn terminate(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let ended = tokio::task::spawn_blocking(move || self.process.wait().expect("it ended"));
        assert!(ended.await.expect("waited").success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_the_next_release_takes_over_while_people_book() {
    let former: PathBuf = std::env::var_os("FORMER_HOLDFAST").expect("run `./dev test upgrade`").into();
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        // So that either release meets the other's.
        ("HOLDFAST_RECONCILE__CANARY_SECONDS", "1".to_owned()),
    ];
    let roles = ["api"].into_iter().chain(WORKERS).chain(["reconcile"]).collect();
    let choice = Choice { executable: former.clone(), settings, roles, ..Choice::default() };
    let next = Choice::default().executable;
    assert!(std::fs::read(&former).unwrap() != std::fs::read(&next).unwrap(), "two releases are not one");
    let mut stack = Stack::start_with("upgrade", choice).await;
    let listen = format!("127.0.0.1:{}", free_port().await);
    let mut second = SecondIngress::start(&stack, &listen).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(stack.add_schedule(SEATS).await);
    }
    let doors = Doors::to(vec![stack.api.clone(), second.address.clone()]);
    let mut shoppers = Shoppers::let_in(&stack, &doors, sessions, AT_ONCE);
    shoppers.serve(BETWEEN).await;

    // The schema and the broker first, as docs/install.md says; the former release works on with them.
    stack.executable = next.clone();
    stack.holdfast_ok(&["migrate"]).await;
    stack.holdfast_ok(&["topology", "apply"]).await;
    shoppers.serve(BETWEEN).await;

    // There, back because somebody got cold feet, and there again.
    for executable in [&next, &former, &next] {
        stack.executable.clone_from(executable);
        let mut order = [&WORKERS[..], &["reconcile"]].concat();
        if *executable == former {
            order.reverse();
        }
        for worker in order {
            assert!(stack.terminate(worker).await.success(), "{worker} stops in order");
            stack.spawn(worker);
            shoppers.serve(BETWEEN).await;
        }
        for number in 0..2 {
            let closed = doors.close(number).await;
            if number == 0 {
                assert!(stack.terminate("api").await.success());
                stack.spawn("api");
                stack.until_ready().await;
            } else {
                second.terminate().await;
                second = SecondIngress::start(&stack, &listen).await;
            }
            drop(closed);
            shoppers.serve(BETWEEN).await;
        }
    }

    // The release after the next migrates while this one works: what it adds is unknown here.
    sqlx::raw_sql(ADDED_LATER).execute(&stack.db).await.expect("a migration");
    for label in LABELS_ADDED_LATER {
        sqlx::raw_sql(label).execute(&stack.db).await.expect("a label");
    }
    for _ in 0..3 {
        shoppers.serve(BETWEEN).await;
    }

    let served = shoppers.go_home().await;
    println!("{served} shoppers were served, none with an error");
    let told = "SELECT count(*) FROM notifications WHERE status = 'pending'";
    stack.until_count("everybody is told", told, 0).await;
    for queue in DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    for status in ["confirmed", "cancelled", "refunded"] {
        let ended: i64 = sqlx::query_scalar("SELECT count(*) FROM payment_orders WHERE status::text = $1")
            .bind(status)
            .fetch_one(&stack.db)
            .await
            .expect("a count");
        assert!(ended > 0, "nobody ended {status}");
    }
    stack.check_money().await;
    second.terminate().await;
}
