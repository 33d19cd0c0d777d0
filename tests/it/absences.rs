//! What is absent, file by file: the walls of ARCHITECTURE.md, kept by a test instead of by memory.

use std::collections::BTreeSet;

use crate::stack::checkout;

/// A source file: its path from the root of the checkout, and what it says in code, comments left out.
struct Source {
    path: String,
    lines: Vec<String>,
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let code =
        |text: String| text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect();
    crate::sources::of(folders).into_iter().map(|(path, text)| Source { path, lines: code(text) }).collect()
}

impl Source {
    /// The code that ships: everything before the file's tests.
    fn shipped(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).take_while(|line| !line.starts_with("#[cfg(test)]"))
    }

    /// Lines that name the crate, as `name::…` or `use name…`; not `other_name::`, and not a text that begins so.
    fn names<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let stands_alone = |line: &str, at: usize| {
            !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_' || before == '"')
        };
        self.shipped().filter(move |line| {
            let path = format!("{name}::");
            line.contains(&format!("use {name};")) || line.match_indices(&path).any(|(at, _)| stands_alone(line, at))
        })
    }

    /// Our own parts that it names: `store` of `crate::store::…` and of `use crate::{store::…, …}`.
    fn parts(&self) -> BTreeSet<String> {
        let text: String = self.shipped().collect::<Vec<_>>().join("\n");
        let mut parts = BTreeSet::new();
        for (place, _) in text.match_indices("crate::") {
            let rest = &text[place + "crate::".len()..];
            let word =
                |text: &str| text.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            let Some(group) = rest.strip_prefix('{') else {
                parts.insert(word(rest));
                continue;
            };
            let mut depth = 1;
            let mut begins = true;
            for (at, letter) in group.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => begins = true,
                    _ if begins && letter.is_ascii_lowercase() => {
                        parts.insert(word(&group[at..]));
                        begins = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        parts
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

#[track_caller]
fn assert_only_in(name: &str, places: &[&str]) {
    let all = sources(&["src", "workers"]);
    let mut inside = 0;
    for source in &all {
        match source.names(name).next() {
            Some(_) if source.is_in(places) => inside += 1,
            Some(line) => panic!("{} names {name}: {line}", source.path),
            None => {}
        }
    }
    assert!(inside > 0, "nobody names {name}: this test looks for the wrong thing");
}

#[test]
fn sql_is_only_in_the_store() {
    assert_only_in("sqlx", &["src/store/"]);
    for source in sources(&["src", "workers"]).iter().filter(|source| !source.is_in(&["src/store/"])) {
        for line in source.shipped() {
            let statement =
                ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().find(|word| line.contains(*word));
            assert_eq!(statement, None, "{}: {line}", source.path);
        }
    }
}

/// sqlx takes a statement only as a constant of the program, which no caller can have written, or as an
/// `AssertSqlSafe`. So these are all the statements that are put together while the program runs, and of what.
const PUT_TOGETHER: [(&str, usize, &str); 5] = [
    ("src/store/doubt.rs", 2, "constants of the file"),
    (
        "src/store/retention.rs",
        3,
        "the name of a partition, as PostgreSQL's catalogue has it, of a form that needs no quotes",
    ),
    ("src/store/standing.rs", 1, "constants of `Intent`"),
    ("src/store/sweep.rs", 2, "constants of `Intent`"),
    ("src/store/verify.rs", 2, "constants of the invariants"),
];

#[test]
fn s6_4_sql_is_constant_and_values_are_bound() {
    for source in sources(&["src", "workers"]) {
        let shipped: Vec<&str> = source.shipped().collect();
        let all = shipped.join("\n");
        let put_together = all.matches("AssertSqlSafe(").count();
        let listed = PUT_TOGETHER.iter().find(|(path, ..)| *path == source.path).map_or(0, |(_, count, _)| *count);
        assert_eq!(put_together, listed, "{} puts statements together that the list above does not know", source.path);
        // The ways round: a builder that takes any text, a leak that makes a constant of it, a server-side EXECUTE.
        for way in ["QueryBuilder", "SqlStr", ".leak()", "Box::leak", "EXECUTE ", "PREPARE "] {
            assert!(!source.is_in(&["src/store/"]) || !all.contains(way), "{} uses {way}", source.path);
        }
        // Several statements at once have no bound values: constants only.
        for line in shipped.iter().filter(|line| line.contains("raw_sql(")) {
            let argument = line.split("raw_sql(").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
            let constant = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            // A file of the program's own is a constant as well.
            assert!(constant || line.contains("raw_sql(include_str!(\""), "{}: {line}", source.path);
        }
    }
    // What is put together is of the program's own: nothing in it is a caller's.
    for (path, ..) in PUT_TOGETHER {
        let text = std::fs::read_to_string(checkout(path)).expect("a source");
        for (at, _) in text.match_indices("AssertSqlSafe(") {
            let before = &text[..at];
            let function = before.rfind("fn ").map_or("", |from| &before[from..]);
            let arguments = function.split("->").next().unwrap_or_default();
            for foreign in ["Caller", "HeaderMap", "Value", "Filter"] {
                assert!(!arguments.contains(foreign), "{path}: {arguments}");
            }
        }
    }
}

/// D2: A release goes on running while the next one adds a column: every statement names its columns, so a result never
/// changes under a plan that a connection keeps.
#[test]
fn d2_every_statement_names_its_columns() {
    let stores: Vec<Source> = sources(&["src"]).into_iter().filter(|source| source.is_in(&["src/store/"])).collect();
    assert!(stores.len() > 30, "the store has moved: this test looks for the wrong thing");
    for source in stores {
        let text = source.shipped().collect::<Vec<_>>().join(" ");
        let words: Vec<&str> = text.split_whitespace().collect();
        for (word, next) in words.iter().zip(words.iter().skip(1)) {
            let is_keyword = ["SELECT", "RETURNING", "ALL", "DISTINCT", ","].iter().any(|key| word.ends_with(key));
            let star = next.trim_end_matches([',', ';', ')', '"']);
            assert!(!(is_keyword && star == "*"), "{}: {word} {next}", source.path);
            let of_table = star.strip_suffix(".*").is_some_and(|table| table.bytes().all(|b| b.is_ascii_lowercase()));
            assert!(!of_table, "{}: {word} {next}", source.path);
        }
        for insert in text.split("INSERT INTO ").skip(1) {
            let (named, _) = insert.split_once('(').unwrap_or((insert, ""));
            let names: Vec<&str> = named.split_whitespace().collect();
            assert!(matches!(names[..], [_] | [_, "AS", _]), "{}: INSERT INTO {named}", source.path);
        }
    }
}

#[test]
fn each_server_is_talked_to_from_one_place() {
    assert_only_in("lapin", &["src/broker/"]);
    assert_only_in("redis", &["src/cache/"]);
    // The sample booking plays a customer with a browser and a phone; spans go to a collector; an OpenID issuer is asked
    // for its keys.
    assert_only_in("reqwest", &["src/wechat/", "src/tokens/issuer.rs", "src/ops/sample.rs", "src/spans/otlp.rs"]);
    assert_only_in("jsonwebtoken", &["src/tokens/"]);
    assert_only_in("axum", &["src/api/"]);
    assert_only_in("hyper_util", &["src/api/"]);
}

#[test]
fn the_rules_know_no_server_clock_or_chance() {
    for source in sources(&["src/domain"]) {
        for name in [
            "sqlx",
            "lapin",
            "redis",
            "reqwest",
            "axum",
            "hyper",
            "tokio",
            "futures_util",
            "rand",
            "metrics",
            "tracing",
            "anyhow",
            "config",
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
        ] {
            let found = source
                .shipped()
                .find(|line| line.contains(&format!("{name}::")) || line.contains(&format!("use {name}")));
            assert_eq!(found, None, "{} names {name}", source.path);
        }
        for word in ["async ", ".await", "now_utc", "Instant::now", "SystemTime"] {
            assert_eq!(source.shipped().find(|line| line.contains(word)), None, "{}", source.path);
        }
        assert!(
            source.parts().is_subset(&BTreeSet::from(["domain".to_owned()])),
            "{}: {:?}",
            source.path,
            source.parts()
        );
    }
}

#[test]
fn inner_parts_do_not_know_outer_ones() {
    // Who may not be named where. The API and the workers meet only in the process that boots them.
    for (place, outer) in [
        ("src/store/", &["broker", "cache", "wechat", "api", "workers", "ops", "process"][..]),
        ("src/broker/", &["store", "cache", "wechat", "api", "workers", "ops", "process"]),
        ("src/cache/", &["store", "broker", "wechat", "api", "workers", "ops", "process"]),
        ("src/wechat/", &["store", "broker", "cache", "api", "workers", "ops", "process"]),
        ("src/tokens/", &["store", "broker", "cache", "wechat", "api", "workers", "ops", "process", "config"]),
        ("workers/", &["api", "ops", "process", "config"]),
        ("src/api/", &["workers", "ops", "process"]),
    ] {
        let all = sources(&[place.trim_end_matches('/')]);
        for source in &all {
            let known = source.parts();
            let found = outer.iter().find(|part| known.contains(**part));
            assert_eq!(found, None, "{}", source.path);
        }
    }
}

#[test]
fn a_worker_names_no_server() {
    for source in sources(&["workers"]) {
        for name in ["sqlx", "lapin", "redis", "reqwest", "axum", "hyper"] {
            assert_eq!(source.names(name).next(), None, "{}", source.path);
        }
        let known = source.parts();
        let mut parts = ["broker", "cache", "crash", "domain", "evidence", "store", "wechat"].into_iter();
        assert!(known.iter().all(|part| parts.by_ref().any(|may| may == part)), "{}: {known:?}", source.path);
        // What workers share need not know what a message says.
        let of_all = if source.path == "workers/together.rs" {
            &["broker", "store"][..]
        } else {
            &["broker", "domain", "store"]
        };
        assert!(of_all.iter().all(|part| known.contains(*part)), "{}: {known:?}", source.path);
    }
}

#[test]
fn a_status_changes_in_one_place() {
    let writes = |source: &Source| {
        let text: String = source.shipped().collect::<Vec<_>>().join(" ");
        let mut updates = text.split("UPDATE payment_orders").skip(1);
        updates.any(|update| update.split("WHERE").next().is_some_and(|set| set.contains("status =")))
    };
    let writers: Vec<String> =
        sources(&["src", "workers"]).into_iter().filter(writes).map(|source| source.path).collect();
    assert_eq!(writers, ["src/store/order.rs"]);
}

#[test]
fn nothing_that_ships_takes_a_short_cut() {
    let ships = |source: &Source| !source.path.contains("/tests/");
    for source in sources(&["src", "workers", "simulator/src"]).into_iter().filter(ships) {
        for line in source.shipped() {
            for word in [".unwrap()", ".expect(\"\")", "panic!(", "todo!(", "unimplemented!(", "dbg!(", "#[allow("] {
                assert!(!line.contains(word), "{}: {line}", source.path);
            }
        }
    }
    for source in sources(&["tests", "simulator/tests"]) {
        assert_eq!(source.lines.iter().find(|line| line.contains(&["#[ig", "nore"].concat())), None, "{}", source.path);
    }
}

#[test]
fn every_file_opens_by_saying_why_it_exists() {
    for (path, text) in crate::sources::of(&["src", "workers", "tests", "simulator/src", "simulator/tests"]) {
        assert!(text.starts_with("//! "), "{path}");
    }
}

#[test]
fn s7_5_the_simulator_shares_no_code_with_us() {
    let manifest = std::fs::read_to_string(checkout("simulator/Cargo.toml")).expect("a manifest");
    assert!(!manifest.contains("holdfast"), "the simulator depends on holdfast");
    for source in sources(&["simulator/src", "simulator/tests"]) {
        assert_eq!(source.names("holdfast").next(), None, "{}", source.path);
    }
}
