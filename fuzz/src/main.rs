//! libFuzzer's driver: mutates inputs for the target that `HOLDFAST_FUZZ` names. Started by `./dev fuzz`.
#![no_main]

use std::sync::LazyLock;

#[path = "../targets/mod.rs"]
mod targets;

static CHOSEN: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("HOLDFAST_FUZZ").unwrap_or_default();
    let chosen = targets::ALL.into_iter().find(|(target, _)| *target == name);
    chosen.unwrap_or_else(|| panic!("HOLDFAST_FUZZ={name:?} names no target")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::run(*CHOSEN, data);
});
