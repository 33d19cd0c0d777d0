//! The project's own Rust files, for tests that look something up in them.

use std::{fs, path::Path};

use crate::stack::checkout;

/// Path in the checkout and text of every Rust file below these folders.
pub(crate) fn of(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        gather(&checkout(folder), folder, &mut found);
    }
    assert!(!found.is_empty(), "no sources in {folders:?}");
    found
}

fn gather(folder: &Path, name: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = format!("{name}/{}", entry.file_name().to_str().expect("UTF-8"));
        if entry.path().is_dir() {
            gather(&entry.path(), &name, found);
        } else if name.ends_with(".rs") {
            found.push((name, fs::read_to_string(entry.path()).expect("UTF-8")));
        }
    }
}
