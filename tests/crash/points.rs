//! The points that the code has, so that one which is left out is noticed.

use std::collections::BTreeSet;

use holdfast::wechat::answers::Call;

use crate::sources;

/// Every point that some story must pass, and somebody die at, by name, whoever it is.
pub(crate) fn in_the_code() -> BTreeSet<String> {
    let commits = steps().into_iter().filter(|step| !HEALS_WHAT_CANNOT_BE.contains(&step.as_str()));
    let commits = commits.flat_map(|step| around("commit", &step));
    let calls = Call::ALL.into_iter().filter(|call| *call != Call::Certificates).map(Call::label);
    let calls = calls.chain(["stable_token", "send_template"]).flat_map(|call| around("wechat", call));
    let kinds = kinds();
    let acks = kinds.iter().flat_map(|kind| around("ack", kind));
    let publishes = kinds
        .iter()
        .filter(|kind| !SAID_AGAIN_ONLY.contains(&kind.as_str()))
        .flat_map(|kind| ["publish.before", "publish.sent", "publish.after"].map(|moment| format!("{moment}:{kind}")));
    commits.chain(calls).chain(acks).chain(publishes).collect()
}

/// Whether it is among these names. A publish is looked for by what it carries, wherever that goes.
pub(crate) fn is_among(point: &str, names: &BTreeSet<String>) -> bool {
    names.contains(point) || names.iter().any(|name| name.split('>').next() == Some(point))
}

fn around(deed: &str, matter: &str) -> [String; 2] {
    [format!("{deed}.before:{matter}"), format!("{deed}.after:{matter}")]
}

/// Published by earlier releases, and by this one only when a crash has it derived again.
const SAID_AGAIN_ONLY: [&str; 1] = ["order.paid_offline"];
/// About rows that no story can lay there and leave the books whole: a refund that this release cannot read
/// (`tests/it/refund_numbers.rs`), months of the audit log that were not made in time (`tests/it/partitions.rs`).
const HEALS_WHAT_CANNOT_BE: [&str; 2] = ["reconcile.unreadable", "partitions.replace_rest"];
/// Where transactions are begun and statements are made. `src/ops/sample.rs` is left out: it plays a customer.
const STEPS_IN: [&str; 4] = ["src/store", "src/dead_letters", "src/desk", "workers"];
/// What is written without a point, since nothing depends on it.
const BINDS_NOBODY: [&str; 1] = ["src/store/trace.rs"];

/// The named transactions, and what the store writes in one statement.
fn steps() -> BTreeSet<String> {
    let mut steps = BTreeSet::new();
    for (path, text) in sources::of(&STEPS_IN) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for opening in ["begin(\"", "around(\"commit\", \""] {
            steps.extend(code.split(opening).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
        // A transaction that is no `Step`, or a statement beside one, would be a commit without points.
        let is_the_store = path == "src/store/mod.rs";
        assert!(is_the_store || !code.contains("transaction.commit()") && !code.contains(".begin()"), "{path}");
        for line in code.lines().filter(|line| line.contains("execute(db")) {
            assert!(line.contains("around(\"commit\"") || BINDS_NOBODY.contains(&path.as_str()), "{path}: {line}");
        }
    }
    assert!(steps.contains("seats.take_in") && steps.contains("notifications.claim"), "{steps:?}");
    steps
}

/// The kinds of messages, as `Message::kind` spells them.
fn kinds() -> BTreeSet<String> {
    let (_, text) = sources::of(&["src/domain"]).into_iter().find(|(path, _)| path.ends_with("message.rs")).unwrap();
    let kind = text.split("pub fn kind(&self)").nth(1).and_then(|rest| rest.split("\n    }\n").next()).unwrap();
    let kinds: BTreeSet<String> = kind.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(kinds.contains("order.held"), "{kinds:?}");
    kinds.into_iter().chain(["canary".to_owned()]).collect()
}
