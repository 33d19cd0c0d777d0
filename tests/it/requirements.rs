//! Every requirement has a row in `docs/requirements.md`, and every proof that a row names is there.
//!
//! A proof is written in code style in the row's last column: `s4_1_*` (every test that begins so, at least one),
//! the whole name of a test, `./dev …` or `holdfast …`. What is still to come says "issue N, not yet".

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use crate::{sources, stack::checkout};

const DOCUMENT: &str = "docs/requirements.md";
/// Each group and how many rows it has.
const GROUPS: [(&str, usize); 9] =
    [("S1.", 4), ("S2.", 4), ("S3.", 4), ("S4.", 3), ("S5.", 4), ("S6.", 4), ("S7.", 5), ("R", 3), ("P", 4)];

#[test]
fn every_requirement_has_a_row_and_no_row_is_invented() {
    let wanted: Vec<String> =
        GROUPS.iter().flat_map(|(group, count)| (1..=*count).map(move |n| format!("{group}{n}"))).collect();
    let written: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    assert_eq!(written, wanted);
}

#[test]
fn every_row_has_a_proof_that_exists() {
    let tests = tests();
    let mut wrong = Vec::new();
    for Row { id, proofs, still_to_come } in rows() {
        if proofs.is_empty() && !still_to_come {
            wrong.push(format!("{id} names neither a proof nor the issue that will bring one"));
        }
        for proof in proofs {
            let exists = match proof.strip_suffix('*') {
                Some(prefix) => tests.iter().any(|test| test.starts_with(prefix)),
                None => match proof.split(' ').collect::<Vec<_>>().split_first() {
                    Some((&"./dev", command)) => is_of_dev(command),
                    Some((&"holdfast", command)) => is_of_holdfast(command),
                    _ => tests.contains(&proof),
                },
            };
            if !exists {
                wrong.push(format!("{id} names {proof}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{DOCUMENT}:\n{}", wrong.join("\n"));
}

#[test]
fn every_test_that_bears_a_number_bears_that_of_a_requirement() {
    let rows: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let strays: Vec<String> =
        tests().into_iter().filter(|test| number(test).is_some_and(|number| !rows.contains(&number))).collect();
    assert!(strays.is_empty(), "{DOCUMENT} has no row for {strays:#?}");
}

/// A test in a file that no program takes in would be named as a proof and never run.
#[test]
fn every_source_file_is_part_of_a_program() {
    let sources = sources::of(&["src", "workers", "tests", "simulator", "benches", "fuzz"]);
    let taken_in: BTreeSet<PathBuf> = sources.iter().flat_map(|(path, text)| modules(Path::new(path), text)).collect();
    let left_out: Vec<&String> = sources
        .iter()
        .map(|(path, _)| path)
        .filter(|path| !path.ends_with("/main.rs") && !path.ends_with("/lib.rs") && !taken_in.contains(Path::new(path)))
        .collect();
    assert!(left_out.is_empty(), "no `mod` names {left_out:#?}");
}

struct Row {
    id: String,
    proofs: Vec<String>,
    still_to_come: bool,
}

/// The rows of all tables whose first column is the number of a requirement.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(checkout(DOCUMENT)).expect("the document");
    text.lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let (id, proof) = (columns.first()?, columns.last()?);
            let is_number = GROUPS.iter().any(|(group, _)| {
                id.strip_prefix(group).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            });
            is_number.then(|| Row {
                id: (*id).to_owned(),
                proofs: proof.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
                still_to_come: proof.contains("not yet"),
            })
        })
        .collect()
}

/// The names of all test functions.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources::of(&["src", "workers", "tests", "simulator"]) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ")
                && is_test
            {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
                is_test = false;
            }
        }
    }
    names
}

/// Where the modules may be that a file declares.
fn modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = path.parent().expect("a folder");
    let mut elsewhere = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            elsewhere = Some(without_detours(&folder.join(path)));
        } else if let Some((_, name)) = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")) {
            let own = [folder.to_owned(), path.with_extension("")];
            let usual = own.iter().flat_map(|own| [own.join(name).with_extension("rs"), own.join(name).join("mod.rs")]);
            found.extend(elsewhere.take().map_or_else(|| usual.collect(), |path| vec![path]));
        }
    }
    found
}

fn without_detours(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut straight, part| {
        match part {
            Component::ParentDir => drop(straight.pop()),
            part => straight.push(part),
        }
        straight
    })
}

/// `s4_1_…` bears S4.1, `p3_…` bears P3; most tests bear no number.
fn number(test: &str) -> Option<String> {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = test.split('_');
    let first = parts.next()?;
    if let Some(group) = first.strip_prefix('s').filter(is_number) {
        return parts.next().filter(is_number).map(|row| format!("S{group}.{row}"));
    }
    let named = first.strip_prefix(['p', 'r']).filter(is_number);
    named.map(|_| first.to_uppercase())
}

/// The script knows the command.
pub(crate) fn is_of_dev(command: &[&str]) -> bool {
    let text = fs::read_to_string(checkout("dev")).expect("the script");
    let name = command.first().copied().unwrap_or_default();
    text.lines().any(|line| line.trim_start().starts_with(&format!("{name}) ")))
}

/// The executable knows the command.
pub(crate) fn is_of_holdfast(command: &[&str]) -> bool {
    let mut asked = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    asked.args(command).arg("--help");
    asked.output().expect("the executable starts").status.success()
}
