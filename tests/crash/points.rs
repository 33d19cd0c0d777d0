//! The points that the code has, so that one which is left out is noticed.

use std::collections::BTreeSet;

use holdfast::wechat::answers::Call;

use crate::sources;

/// Every point that some story must pass, and somebody die at, by name, whoever it is.
pub(crate) fn in_the_code() -> BTreeSet<String> {
    let commits = steps().into_iter().flat_map(|step| around("commit", &step));
    let calls = Call::ALL.into_iter().filter(|call| *call != Call::Certificates).map(Call::label);
    let calls = calls.chain(["stable_token", "send_template"]).flat_map(|call| around("wechat", call));
    let kinds = kinds();
    let acks = kinds.iter().flat_map(|kind| around("ack", kind));
    let publishes = kinds
        .iter()
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

/// The named transactions of the workers, and what the store writes in one statement.
fn steps() -> BTreeSet<String> {
    let mut steps = BTreeSet::new();
    for (path, text) in sources::of(&["src/store", "workers"]) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for opening in ["begin(\"", "around(\"commit\", \""] {
            steps.extend(code.split(opening).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
        assert!(!code.contains(".commit()") || path == "src/store/mod.rs" || path.starts_with("workers/"), "{path}");
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
    kinds
}
