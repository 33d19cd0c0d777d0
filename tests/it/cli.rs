//! The executable as an operator meets it: exit codes, what goes to which stream, and all that is wrong at once.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Choice, PRICE_FEN, Stack},
};

async fn nothing_running(test: &str) -> Stack {
    let settings = vec![("HOLDFAST_BROKER__CONFIRM_MS", "3000".into())];
    Stack::start_with(test, Choice { settings, roles: Vec::new(), ..Choice::default() }).await
}

/// Runs the executable with nothing in its environment but this.
fn alone(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(arguments).env_clear().envs(crate::stack::coverage()).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the executable starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn document(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("not one JSON document: {error}: {stdout}"))
}

#[test]
fn s2_1_config_check_lists_everything_that_is_missing_in_one_go() {
    let (code, _, stderr) = alone(&["config", "check"], &[]);
    assert_eq!(code, 2);
    for setting in [
        "database.url",
        "broker.url",
        "cache.url",
        "auth.secret",
        "personal.key",
        "wechat_pay.base_url",
        "wechat_pay.appid",
        "wechat_pay.mchid",
        "wechat_pay.merchant_serial_no",
        "wechat_pay.merchant_private_key",
        "wechat_pay.apiv3_key",
        "wechat_pay.notify_url",
        "official_account.base_url",
        "official_account.appid",
        "official_account.secret",
    ] {
        assert!(stderr.lines().any(|line| line.contains(&format!("{setting} is missing"))), "{setting}: {stderr}");
    }
    let (code, stdout, _) = alone(&["config", "check", "--json"], &[]);
    let report = document(&stdout);
    assert_eq!((code, report["problems"].as_array().map(Vec::len)), (2, Some(stderr.lines().count())));
    assert!(
        report["items"].as_array().is_some_and(|settings| {
            settings
                .iter()
                .any(|shown| *shown == json!({ "setting": "order.price_fen", "value": "20000", "source": "default" }))
        }),
        "{report}"
    );
}

#[tokio::test]
async fn s2_1_config_check_shows_sources_masks_secrets_and_finds_what_does_not_fit() {
    let mut stack = nothing_running("cli-config").await;
    let (code, stdout, stderr) = stack.holdfast(&["config", "check"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let password = |url: &str| {
        let login = stack.environment[url].split_once("://").expect("a URL").1.split_once('@').expect("a login").0;
        login.split_once(':').expect("a password").1.to_owned()
    };
    let secrets = [
        password("DATABASE_URL"),
        password("AMQP_URL"),
        password("REDIS_URL"),
        stack.environment["HOLDFAST_AUTH__SECRET"].clone(),
        stack.environment["HOLDFAST_PERSONAL__KEY"].clone(),
        stack.environment["HOLDFAST_OFFICIAL_ACCOUNT__SECRET"].clone(),
    ];
    let json = stack.holdfast_ok(&["config", "check", "--json"]).await;
    for secret in &secrets {
        assert!(!stdout.contains(secret.as_str()) && !json.contains(secret.as_str()), "a secret is shown");
    }
    let shown = document(&json);
    let of = |setting: &str| {
        let settings = shown["items"].as_array().expect("settings");
        settings
            .iter()
            .find(|shown| shown["setting"] == setting)
            .unwrap_or_else(|| panic!("{setting}: {shown}"))
            .clone()
    };
    assert_ne!(of("wechat_pay.mchid")["source"], "default");
    assert_eq!(of("wechat_pay.mchid")["value"], stack.environment["HOLDFAST_WECHAT_PAY__MCHID"]);
    assert!(
        of("database.url")["value"].as_str().is_some_and(|url| url.contains("127.0.0.1")),
        "an address keeps its host"
    );

    for (name, value) in [
        ("HOLDFAST_WECHAT_PAY__MERCHANT_SERIAL_NO", "12"),
        ("HOLDFAST_WECHAT_PAY__NOTIFY_URL", "https://example.com/?a=b"),
        ("HOLDFAST_AUTH__SECRET", "short"),
        ("HOLDFAST_PERSONAL__KEY", "AAAA"),
        ("HOLDFAST_BROKER__CONFIRM_MS", "5000"),
        ("HOLDFAST_ORDER__HOLD_SECONDS", "99999"),
        ("HOLDFAST_API__PUBLIC_URL", "example.com"),
    ] {
        stack.environment.insert(name.into(), value.into());
    }
    stack.environment.remove("HOLDFAST_WECHAT_PAY__APIV3_KEY_FILE");
    stack.environment.insert("HOLDFAST_WECHAT_PAY__APIV3_KEY".into(), "too short".into());
    let (code, _, stderr) = stack.holdfast(&["config", "check"]).await;
    assert_eq!(code, 2);
    for setting in [
        "wechat_pay.merchant_serial_no",
        "wechat_pay.notify_url",
        "wechat_pay.apiv3_key",
        "auth.secret",
        "personal.key",
        "broker.confirm_ms",
        "order.hold_seconds",
        "api.public_url",
    ] {
        assert!(stderr.contains(setting), "{setting}: {stderr}");
    }
    stack.environment.insert("HOLDFAST_ORDER__PRICE".into(), "1".into());
    let (code, _, stderr) = stack.holdfast(&["config", "check"]).await;
    assert_eq!((code, stderr.contains("price")), (2, true), "an unknown setting is named: {stderr}");
}

#[tokio::test]
async fn the_topology_is_checked_mended_and_insisted_upon() {
    let stack = nothing_running("cli-topology").await;
    let (code, stdout, _) = stack.holdfast(&["topology", "check"]).await;
    assert_eq!((code, stdout.contains("as they must be")), (0, true), "{stdout}");

    let queues = Queues::of(&stack).await;
    queues.delete("prepay").await;
    queues.delete("delay.5s").await;
    queues.declare_plain("delay.5s").await;
    let (code, stdout, _) = stack.holdfast(&["topology", "check"]).await;
    assert_eq!(code, 1);
    assert!(stdout.contains("queue prepay is missing") && stdout.contains("queue delay.5s is different"), "{stdout}");
    // Each role insists on what it uses; the ingress lets nothing wait.
    for (role, waits) in [(&["worker", "seats"][..], true), (&["api"], false)] {
        let (code, _, stderr) = stack.holdfast(role).await;
        assert_eq!(code, 2, "{role:?}: {stderr}");
        assert!(stderr.contains("queue prepay is missing"), "{stderr}");
        assert_eq!(stderr.contains("queue delay.5s is different"), waits, "{stderr}");
    }
    // Who is to heal the broker must not be kept from it by what is missing.
    let (code, _, stderr) = stack.holdfast(&["worker", "all"]).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(!stderr.contains("is missing") && stderr.contains("queue delay.5s is different"), "{stderr}");
    queues.delete("prepay").await;
    // What is missing is declared; what is there otherwise may hold messages and is left to a person.
    let (code, stdout, _) = stack.holdfast(&["topology", "apply", "--json"]).await;
    let differences = &document(&stdout)["items"];
    assert_eq!(
        (code, differences[0]["name"].as_str(), differences[1].is_null()),
        (1, Some("delay.5s"), true),
        "{stdout}"
    );
    queues.delete("delay.5s").await;
    stack.holdfast_ok(&["topology", "apply"]).await;
    let report = document(&stack.holdfast_ok(&["topology", "check", "--json"]).await);
    assert_eq!(report["items"], json!([]));
    queues.make_direct("delay.1s").await;
    let (code, stdout, _) = stack.holdfast(&["topology", "check"]).await;
    assert_eq!((code, stdout.contains("exchange delay.1s is different")), (1, true), "{stdout}");
}

#[tokio::test]
async fn an_operators_commands_answer_in_words_and_in_documents() {
    let stack = Stack::start_with("cli-commands", Choice { roles: vec!["api", "seats"], ..Choice::default() }).await;
    let add = [
        "schedule",
        "add",
        "--capacity",
        "3",
        "--course",
        "tea",
        "--title",
        "茶道",
        "--starts-at",
        "2030-01-01T18:00:00+08:00",
        "--price-fen",
        "8800",
        "--json",
    ];
    let added = document(&stack.holdfast_ok(&add).await);
    assert_eq!((&added["course"], &added["price_fen"]), (&json!("茶道"), &json!(8800)));
    assert_eq!((&added["starts_at"], &added["available"]), (&json!("2030-01-01T10:00:00Z"), &json!(3)));
    let listed = document(&stack.holdfast_ok(&["schedule", "list", "--course", "tea", "--json"]).await);
    assert_eq!(listed, json!({ "items": [&added], "next": null }));
    assert!(stack.holdfast_ok(&["schedule", "list"]).await.contains("茶道"));
    let by_default = stack.add_schedule(1).await;
    // The sooner one first, and each once.
    let page = ["schedule", "list", "--limit", "1", "--json"];
    let first = document(&stack.holdfast_ok(&page).await);
    let next = first["next"].as_str().expect("there is more");
    assert!(stack.holdfast_ok(&page[..4]).await.ends_with(&format!("more: --cursor {next}\n")));
    let second = document(&stack.holdfast_ok(&[&page[..], &["--cursor", next]].concat()).await);
    let ids = [&first, &second].map(|page| page["items"][0]["schedule_id"].clone());
    assert_eq!((ids, &second["next"]), ([json!(by_default), added["schedule_id"].clone()], &Value::Null));

    let ann = stack.token("ann").await;
    let order = stack.submit(&ann, &by_default).await;
    let held = stack.until_status(&ann, &order, "held").await;
    assert_eq!(held["amount_fen"], PRICE_FEN);
    assert_eq!(
        document(&stack.holdfast_ok(&["order", "show", &order, "--json"]).await),
        held,
        "the API's own document"
    );
    assert!(stack.holdfast_ok(&["order", "show", &order]).await.contains("held"));

    for (arguments, code) in [
        (&["order", "show", "hf0000000000"][..], 1),
        (&["order", "show", "HF|1"], 1),
        (&["order", "explain", "nobody's"], 1),
        (&["order", "override", "HF|1", "close", "--reason", "x"], 1),
        (&["schedule", "line", "none"], 1),
        (&["schedule", "cancel", "none"], 1),
        (&["schedule", "add", "--capacity", "0"], 2),
        (&["schedule", "add"], 2),
        (&["schedule", "add", "--capacity", "1", "--starts-at", "tomorrow"], 2),
        (&["schedule", "add", "--capacity", "1", "--course", "two words"], 2),
        (&["schedule", "add", "--capacity", "1", "--course", "new", "--title", ""], 2),
        (&["schedule", "add", "--capacity", "1", "--price-fen", "-1"], 2),
        (&["token", "--user", "two words"], 2),
        (&["token", "--user", "ann", "--role", "king"], 2),
        (&["worker"], 2),
        (&["worker", "seats", "painter"], 2),
        (&["paint"], 2),
        (&[], 2),
    ] {
        let (found, stdout, stderr) = stack.holdfast(arguments).await;
        assert_eq!((found, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(!stderr.trim().is_empty(), "{arguments:?} says why");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_by_its_name() {
    let mut stack = nothing_running("cli-away").await;
    stack.environment.insert("DATABASE_URL".into(), "postgres://u:p@127.0.0.1:1/d".into());
    stack.environment.insert("AMQP_URL".into(), "amqp://u:p@127.0.0.1:1/v".into());
    for (arguments, server) in [
        (&["migrate"][..], "PostgreSQL"),
        (&["schedule", "list"], "PostgreSQL"),
        (&["order", "show", "hf0000000000"], "PostgreSQL"),
        (&["topology", "check"], "RabbitMQ"),
        (&["topology", "apply"], "RabbitMQ"),
    ] {
        let (code, stdout, stderr) = stack.holdfast(arguments).await;
        assert_eq!((code, stdout.as_str()), (3, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(server), "{arguments:?}: {stderr}");
    }
}

#[test]
fn every_command_explains_itself() {
    fn explain(command: &[&str], explained: &mut usize) {
        let (code, stdout, stderr) = alone(&[command, &["--help"]].concat(), &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{command:?}");
        let (words, usage) = stdout.split_once("Usage: holdfast").unwrap_or_else(|| panic!("{command:?}: {stdout}"));
        assert!(!words.trim().is_empty(), "{command:?} does not say what it does");
        *explained += 1;
        let commands = usage.split_once("Commands:\n").map_or("", |(_, commands)| commands);
        for line in commands.lines().take_while(|line| line.starts_with("  ")) {
            let mut words = line.split_whitespace();
            if let Some(name) = words.next().filter(|name| *name != "help" && !line.starts_with("   ")) {
                assert!(words.next().is_some(), "{command:?} {name} is listed without words");
                explain(&[command, &[name]].concat(), explained);
            }
        }
    }
    let mut explained = 0;
    explain(&[], &mut explained);
    assert!(explained > 15, "{explained}");
}
