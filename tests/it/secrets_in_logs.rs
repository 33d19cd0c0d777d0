//! Nothing secret and nothing personal is told: not in the log of any process at any level, not by `config check`, and not
//! by `Debug`.

use std::collections::BTreeMap;

use redis::AsyncCommands as _;
use serde_json::Value;

use crate::stack::{Choice, Stack, server_resources::server};

/// What must not be read anywhere, by what it is.
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// All that the processes of this stack were given.
    fn given(stack: &Stack) -> Self {
        let mut secrets = BTreeMap::new();
        for (setting, value) in &stack.environment {
            if ["__SECRET", "__KEY", "PASSWORD"].iter().any(|end| setting.ends_with(end)) {
                secrets.insert(setting.clone(), value.clone());
            } else if setting.ends_with("_KEY_FILE") && !setting.contains("PUBLIC") {
                // A line of a PEM says enough; its head and foot are no secret.
                let text = std::fs::read_to_string(value).expect("a key file");
                let line = text.lines().find(|line| !line.starts_with("-----")).expect("a line");
                secrets.insert(setting.clone(), line.to_owned());
            } else if let Some((_, rest)) = value.split_once("://")
                && let Some((user, _)) = rest.rsplit_once('@')
            {
                let password = user.split_once(':').expect("a password").1;
                secrets.insert(format!("the password of {setting}"), password.to_owned());
            }
        }
        assert!(secrets.len() >= 8, "not every secret was found: {:?}", secrets.keys());
        Self(secrets)
    }

    /// And all that they met: customers' tokens and openids, the Official Account's token, and what proves that a request
    /// to WeChat is the merchant's.
    async fn met(stack: &Stack) -> Self {
        let Self(mut secrets) = Self::given(stack);
        // Every token of a stack begins with the same head, and every openid with the same word.
        let token = stack.quick_token("anybody");
        secrets.insert("a token's head".into(), token.split('.').next().expect("a head").to_owned());
        secrets.insert("an openid".into(), "openid-".into());
        secrets.insert("a bearer's header".into(), "Bearer ".into());
        secrets.insert("a request's signature".into(), "WECHATPAY2-SHA256-RSA2048".into());
        secrets.insert("the payment sheet's signature".into(), "paySign".into());
        let client = redis::Client::open(server("REDIS_URL")).expect("an address");
        let mut redis = client.get_multiplexed_async_connection().await.expect("Redis");
        let keys: Vec<String> = redis.keys(format!("{}:*official-account*", stack.name)).await.expect("keys");
        for key in keys.iter().filter(|key| key.ends_with("token")) {
            let token: String = redis.get(key).await.expect("the token");
            secrets.insert("the Official Account's token".into(), token);
        }
        Self(secrets)
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let from = (0..=at.saturating_sub(200)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                panic!("{place} tells {name}: …{}…", text[from..at].lines().last().unwrap_or_default());
            }
        }
    }
}

impl Stack {
    /// Every process wrote a log, and none tells what it must not.
    pub(crate) async fn check_logs_tell_no_secret(&self) {
        let secrets = Secrets::met(self).await;
        assert!(secrets.0.contains_key("the Official Account's token"), "nobody was told anything");
        let (mut bytes, mut logs) = (0, 0);
        for role in self.roles() {
            let log = std::fs::read_to_string(self.log(role)).expect("a log");
            assert!(log.contains("DEBUG"), "{role} says little: this test looks for the wrong thing");
            secrets.are_not_in(&format!("the log of {role}"), &log);
            (bytes, logs) = (bytes + log.len(), logs + 1);
        }
        println!("secrets in logs: {} sought in {logs} logs of {} KiB, none found", secrets.0.len(), bytes / 1024);
    }
}

#[tokio::test]
async fn s2_1_no_setting_shows_its_secret() {
    let stack = Stack::start_with("secrets-settings", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let secrets = Secrets::given(&stack);
    secrets.are_not_in("Debug", &format!("{:?}", stack.settings()));
    for arguments in
        [["config", "check", "--json"].as_slice(), &["config", "check"], &["config", "check", "--production"]]
    {
        let (_, stdout, stderr) = stack.holdfast(arguments).await;
        secrets.are_not_in(&format!("holdfast {arguments:?}"), &(stdout + &stderr));
    }
    // A secret under a name that is spelled wrongly; a password behind the question mark.
    for (setting, value) in [
        ("HOLDFAST_AUTH__SECERT", "kept-to-oneself-1"),
        ("HOLDFAST_PERSONAL__KEY_OF_OLD", "kept-to-oneself-2"),
        ("DATABASE_URL", "postgres://db.internal/holdfast?user=holdfast&password=kept-to-oneself-3"),
        ("HOLDFAST_DATABASE__OPERATORS_URL", "postgres://holdfast_desk:kept-to-oneself-4@db.internal/holdfast"),
    ] {
        let mut command = stack.command(&["config", "check", "--json"]);
        let output = command.env(setting, value).output().expect("the executable starts");
        let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert!(report["items"].as_array().is_some_and(|settings| settings.len() > 20), "{report}");
        let told = format!("{report} {}", String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains("kept-to-oneself"), "{setting} is shown: {told}");
    }
}
