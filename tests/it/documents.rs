//! The documents say what the code says: blocks that are drawn from it are compared, names are looked up, links lead
//! somewhere. `UPDATE_DOCS=1` draws the blocks again.

use std::{collections::BTreeSet, fs, path::Path};

use holdfast::domain::{
    notification::{Kind, keys},
    order_diagram,
};

use crate::stack::checkout;

#[test]
fn the_order_life_is_drawn_from_the_code() {
    let diagram = format!("```mermaid\n{}```\n", order_diagram::diagram());
    compare("docs/order-life.md", "diagram", &diagram);
    compare("docs/order-life.md", "steps", &order_diagram::steps());
    compare("docs/order-life.md", "matrix", &order_diagram::matrix());
    let refund = format!("```mermaid\n{}```\n", order_diagram::refund_diagram());
    compare("docs/order-life.md", "refund", &refund);
}

#[test]
fn the_settings_are_listed_from_their_defaults() {
    compare("docs/operations.md", "settings", &table_of_settings());
}

#[test]
fn the_templates_are_listed_with_their_keys() {
    let mut table = String::from("| `official_account.templates.…` | keys |\n|---|---|\n");
    for kind in Kind::ALL {
        let keys: Vec<String> = keys(kind).iter().map(|(key, says)| format!("{says} `{key}`")).collect();
        table.push_str(&format!("| `{}` | {} |\n", kind.as_str(), keys.join(", ")));
    }
    compare("docs/install.md", "templates", &table);
}

#[test]
fn s2_1_every_setting_that_is_written_down_is_known() {
    // As if every line that is a sample were in force.
    let all: String = settings().map(|line| format!("{line}\n")).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("every-setting.toml");
    fs::write(&file, all).expect("a file");
    let name = file.to_str().expect("a UTF-8 path").to_owned();
    let loaded = holdfast::config::load([("HOLDFAST_CONFIG".to_owned(), name)]);
    loaded.settings.expect("no setting is unknown or of another type");
}

#[test]
fn every_metric_is_explained() {
    let explained = read("docs/operations.md");
    let missing: Vec<String> = metrics().into_iter().filter(|name| !explained.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md, Metrics, does not explain {missing:?}");
}

#[test]
fn p4_every_error_class_has_its_row_in_the_run_book() {
    let text = read("docs/operations.md");
    let (_, section) = text.split_once("## A message was parked").expect("the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: BTreeSet<&str> = rows.filter(|class| *class != "x-error-class").collect();
    assert_eq!(rows, error_classes().iter().map(String::as_str).collect());
}

/// Every class that a letter can have: those that the code parks with, and those that are given up by counting.
fn error_classes() -> BTreeSet<String> {
    let mut classes = BTreeSet::new();
    for (path, text) in crate::sources::of(&["src/broker", "src/dead_letters", "workers"]) {
        if path.contains("/tests") {
            continue;
        }
        // As rustfmt breaks lines; what a test of the file parks with is none.
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        let shipped: String = shipped.split_whitespace().collect::<Vec<_>>().join(" ");
        for before in ["class: \"", "park(\"", "self.parked(delivery, \"", "|queue| (\"", "unwrap_or_else(|| \""] {
            let found = shipped.split(before).skip(1).filter_map(|rest| rest.split('"').next());
            let is_class = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            classes.extend(found.filter(is_class).map(str::to_owned));
        }
    }
    use holdfast::domain::retry::Class;
    let all = [
        Class::Unknown,
        Class::Busy,
        Class::Unfamiliar,
        Class::Early,
        Class::Pending,
        Class::Outage,
        Class::Singled,
        Class::Newer,
    ];
    let given_up = all.into_iter().filter(|class| class.next(u32::MAX - 1).is_none());
    classes.extend(given_up.map(|class| class.as_str().to_owned()));
    classes
}

#[test]
fn every_command_that_a_document_shows_exists() {
    for document in documents() {
        let text = read(&document);
        // In code blocks a command begins the line; its words end where options or values begin.
        for block in text.split("```").skip(1).step_by(2) {
            for line in block.lines() {
                let words: Vec<&str> = line.split("  ").next().unwrap_or_default().split(' ').collect();
                let is_word = |word: &&&str| word.bytes().all(|b| b.is_ascii_lowercase());
                let command: Vec<&str> = words.iter().skip(1).take_while(is_word).copied().collect();
                let exists = match words[0] {
                    "./dev" => crate::requirements::is_of_dev(&command),
                    "holdfast" => crate::requirements::is_of_holdfast(&command),
                    _ => true,
                };
                assert!(exists, "{document} shows {line}");
            }
        }
    }
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for document in documents() {
        let text = read(&document);
        let folder = checkout(&document).parent().expect("a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(folder.join(path).exists(), "{document} links to {path}, which is not there");
        }
    }
}

/// The documents for people, by their path in the checkout.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/", "simulator/"] {
        for entry in fs::read_dir(checkout(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found
}

/// The block between `<!-- generated: NAME -->` and `<!-- end -->` is `fresh`.
fn compare(document: &str, name: &str, fresh: &str) {
    let text = read(document);
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no block {name}"));
    let (block, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{name} does not end"));
    if block == fresh {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(checkout(document), format!("{before}{begin}{fresh}<!-- end -->{after}")).expect("written");
    } else {
        panic!("{document}, block {name}, is not what the code says. UPDATE_DOCS=1 cargo test --test it documents");
    }
}

/// `src/holdfast.toml` as a table: setting, default, reason. A line `# key = value` is a setting without default.
fn table_of_settings() -> String {
    let mut table = String::from("| setting | default | why |\n|---|---|---|\n");
    let text = read("src/holdfast.toml");
    let mut section = "";
    let mut reason = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            reason.clear();
        } else if let Some((key, value)) = setting(line) {
            let words = reason.join(" ");
            let (default, words) = match line.strip_prefix("# ") {
                None => (format!("`{value}`"), words),
                Some(_) if value.contains('…') => ("—".to_owned(), words),
                Some(_) => ("—".to_owned(), format!("{words} Like `{value}`").trim().to_owned()),
            };
            table.push_str(&format!("| `{section}.{key}` | {default} | {words} |\n"));
            reason.clear();
        } else if let Some(words) = line.strip_prefix("# ") {
            reason.push(words);
        } else {
            reason.clear();
        }
    }
    table
}

/// The lines of `src/holdfast.toml`, samples in force.
fn settings() -> impl Iterator<Item = String> {
    read("src/holdfast.toml")
        .lines()
        .map(|line| if setting(line).is_some() { line.trim_start_matches("# ").to_owned() } else { line.to_owned() })
        .collect::<Vec<_>>()
        .into_iter()
}

fn setting(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_start_matches("# ").split_once(" = ")?;
    let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
    is_key.then_some((key, value))
}

/// The names of all metrics in the sources.
fn metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in crate::sources::of(&["src", "workers"]) {
        for kind in ["counter!(\"", "histogram!(\"", "gauge!(\""] {
            names.extend(text.split(kind).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    let api = read("src/api/names.rs");
    names.extend(api.split(": &str = \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
