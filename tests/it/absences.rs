//! The invariants of ARCHITECTURE.md that say what is absent, looked up in the sources.

use crate::sources;

/// Each crate and the folders that may name it. `ops/sample.rs` plays a customer, so it calls over HTTP.
const PLACES: [(&str, &[&str]); 5] = [
    ("sqlx", &["src/store/"]),
    ("lapin", &["src/broker/"]),
    ("redis", &["src/cache/"]),
    ("reqwest", &["src/wechat/", "src/ops/sample.rs"]),
    ("axum", &["src/api/", "src/ops/sample.rs"]),
];

#[test]
fn each_server_is_spoken_to_from_one_place() {
    for (name, places) in PLACES {
        assert_absent(&format!("{name}::"), |path| !places.iter().any(|place| path.starts_with(place)));
    }
}

#[test]
fn the_rules_are_free_of_io() {
    for name in ["tokio::", "std::fs", "std::net", "std::env", "SystemTime::now", "Instant::now", "now_utc"] {
        assert_absent(name, |path| path.starts_with("src/domain/"));
    }
    for inner in ["store", "broker", "cache", "wechat", "api", "workers"] {
        assert_absent(&format!("crate::{inner}"), |path| path.starts_with("src/domain/"));
    }
}

#[test]
fn inner_layers_do_not_know_the_outer_ones() {
    for layer in ["src/store/", "src/broker/", "src/cache/", "src/wechat/"] {
        for outer in ["api", "workers", "ops", "process"] {
            assert_absent(&format!("crate::{outer}::"), |path| path.starts_with(layer));
        }
    }
    assert_absent("crate::workers", |path| path.starts_with("src/api/"));
    assert_absent("crate::api", |path| path.starts_with("workers/"));
}

#[test]
fn the_simulator_does_not_know_holdfast() {
    for (path, text) in sources::of(&["simulator/src"]) {
        assert!(!text.contains("holdfast::"), "{path}");
    }
    let manifest = std::fs::read_to_string(crate::stack::checkout("simulator/Cargo.toml")).expect("the manifest");
    assert!(!manifest.contains("holdfast"));
}

fn assert_absent(name: &str, place: impl Fn(&str) -> bool) {
    for (path, text) in sources::of(&["src", "workers"]) {
        let used = text.lines().any(|line| !line.trim_start().starts_with("//") && is_named(line, name));
        assert!(!(used && place(&path)), "{path} names {name}");
    }
}

/// `axum::` is named by `axum::Json`, not by `utoipa_axum::router`.
fn is_named(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}
