//! The commands' part of the access matrix: what each needs, and what it says to whoever has less.
//!
//! Whoever runs a command is let in by what they hold: the settings, and in them the servers' passwords and the keys.
//! A command that decides something wants a name for the record besides.

use std::process::Command;

use crate::{access::Cell, stack::Stack};

const ID: &str = "00000000-0000-7000-8000-000000000000";
const ORDER: &str = "hf000000000000000000000001";

/// A command with arguments that would do, what it needs, and the flag that takes the name of whoever decides.
struct Act {
    arguments: &'static [&'static str],
    needs: &'static str,
    name: Option<&'static str>,
}

const fn act(needs: &'static str, arguments: &'static [&'static str]) -> Act {
    Act { arguments, needs, name: None }
}

const fn decides(needs: &'static str, name: &'static str, arguments: &'static [&'static str]) -> Act {
    Act { arguments, needs, name: Some(name) }
}

const DATABASE: &str = "database";
const BROKER: &str = "broker";
const BOTH: &str = "database, broker";
const EVERYTHING: &str = "database, broker, WeChat's keys";
const PERSONAL: &str = "database, the key of personal data";
const TOKENS: &str = "the tokens' key";
const NOTHING: &str = "settings";

/// Every command there is; the test finds those that are missing here.
const ACTS: &[Act] = &[
    act(EVERYTHING, &["api"]),
    act(EVERYTHING, &["worker", "all"]),
    act(DATABASE, &["migrate"]),
    act(BROKER, &["topology", "check"]),
    act(BROKER, &["topology", "apply"]),
    act(NOTHING, &["config", "check"]),
    act(TOKENS, &["token", "--user", "ann"]),
    act(DATABASE, &["schedule", "add", "--capacity", "1"]),
    act(DATABASE, &["schedule", "list"]),
    act(BOTH, &["schedule", "cancel", ID]),
    act(DATABASE, &["schedule", "line", ID]),
    act(DATABASE, &["order", "show", ORDER]),
    act(DATABASE, &["order", "explain", ORDER]),
    decides(BOTH, "--as", &["order", "override", ORDER, "release", "--reason", "why"]),
    act(DATABASE, &["order", "overrides"]),
    decides(
        BOTH,
        "--operator",
        &["order", "paid-offline", ORDER, "--amount-fen", "1", "--receipt", "r-1", "--operator", "oscar"],
    ),
    act(BOTH, &["dead", "list"]),
    act(BOTH, &["dead", "show", ID]),
    decides(BOTH, "--operator", &["dead", "replay", "--all"]),
    act(BOTH, &["dead", "status", ID]),
    decides(BOTH, "--operator", &["dead", "pause", ID]),
    decides(BOTH, "--operator", &["dead", "resume", ID]),
    decides(BOTH, "--operator", &["dead", "cancel", ID]),
    decides(BOTH, "--operator", &["dead", "discard", "--reason", "why", "--all"]),
    decides(BOTH, "--operator", &["dead", "restore", ID]),
    decides(BOTH, "--operator", &["dead", "note", "cause", "note"]),
    act(BOTH, &["dead", "acts"]),
    act(DATABASE, &["case", "list"]),
    act(DATABASE, &["case", "show", ID]),
    decides(EVERYTHING, "--as", &["order", "take-refund", ORDER, "--out-refund-no", "5030", "--reason", "why"]),
    decides(DATABASE, "--as", &["case", "close", ID, "--resolution", "why"]),
    act(DATABASE, &["audit", "prune"]),
    act(DATABASE, &["verify"]),
    act(PERSONAL, &["keys", "list"]),
    act(PERSONAL, &["keys", "reseal"]),
    act(EVERYTHING, &["reconcile", "--date", "2030-01-01"]),
    act(EVERYTHING, &["sample"]),
];

impl Act {
    /// The command without what follows it.
    fn command(&self) -> String {
        let is_word =
            |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && **word != "all";
        let words = self.arguments.iter().take(2).take_while(|word| is_word(word) && !word.starts_with("--"));
        words.copied().collect::<Vec<_>>().join(" ")
    }

    fn stays(&self) -> bool {
        ["api", "worker"].contains(&self.arguments[0])
    }

    fn rule(&self) -> String {
        self.name.map_or_else(|| self.needs.into(), |flag| format!("{}, a name (`{flag}`)", self.needs))
    }

    fn cell(&self, who: &'static str, expected: &[i32], code: i32, stdout: &str, stderr: &str) -> Cell {
        let ok = expected.contains(&code) && (code == 0 || stdout.is_empty() || self.needs == NOTHING);
        Cell {
            surface: "cli",
            what: format!("holdfast {}", self.command()),
            rule: self.rule(),
            who,
            expected: format!("exit {expected:?}"),
            answered: if ok { code.to_string() } else { format!("{code}: {stderr}") },
            ok,
        }
    }
}

/// Every command, with nothing; with settings whose passwords are wrong; and deciding without a name.
pub(crate) async fn cells(stack: &Stack) -> Vec<Cell> {
    let mut listed: Vec<String> = ACTS.iter().map(Act::command).collect();
    let mut there = leaves(&[]);
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there, "every command has its row, and no row is of none");

    let wrong = |name: &str| {
        let url = &stack.environment[name];
        let (login, host) = url.rsplit_once('@').expect("a login");
        let (user, _) = login.rsplit_once(':').expect("a password");
        format!("{user}:not-it@{host}")
    };
    let passwords = ["DATABASE_URL", "AMQP_URL", "REDIS_URL"].map(|name| (name, wrong(name)));
    let mut runs = Vec::new();
    for act in ACTS {
        let bare = stack.command(act.arguments);
        let mut nothing = Command::new(bare.get_program());
        nothing.args(act.arguments).env_clear().envs(crate::stack::coverage());
        runs.push((act, "no settings", &[2][..], nothing));
        if act.stays() {
            continue;
        }
        let needs_servers = ![NOTHING, TOKENS].contains(&act.needs);
        let mut refused = stack.command(act.arguments);
        refused.envs(passwords.iter().map(|(name, url)| (*name, url)));
        runs.push((act, "wrong passwords", if needs_servers { &[2, 3] } else { &[0] }, refused));
        if let Some(flag) = act.name {
            let kept: Vec<&str> =
                act.arguments.split(|word| *word == flag).next().into_iter().flatten().copied().collect();
            let mut nameless = stack.command(&kept);
            nameless.args([flag, ""]);
            runs.push((act, "no name", &[2], nameless));
        }
    }
    let running = runs.into_iter().map(|(act, who, expected, mut command)| {
        tokio::task::spawn_blocking(move || {
            let output = command.output().expect("the executable starts");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            act.cell(who, expected, output.status.code().unwrap_or(-1), &stdout, &stderr)
        })
    });
    let ran = futures_util::future::join_all(running.collect::<Vec<_>>()).await;
    ran.into_iter().map(|cell| cell.expect("it ended")).collect()
}

/// Every command that has none below it, as `--help` tells.
fn leaves(path: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast")).args(path).arg("--help").output();
    let help = String::from_utf8(output.expect("the executable starts").stdout).expect("UTF-8");
    let Some((_, rest)) = help.split_once("\nCommands:\n") else {
        return vec![path.join(" ")];
    };
    let names = rest.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then_some(name)
    });
    names.flat_map(|name| leaves(&[path, &[name]].concat())).collect()
}
