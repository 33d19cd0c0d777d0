//! What strangers can send, from a corpus: inputs that once broke something, and one for each way through a door.
//!
//! The promises are in `fuzz/targets`, one file per door. `./dev fuzz` invents further inputs for the same targets.

use crate::stack::checkout;

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

#[test]
fn s6_4_every_input_of_the_corpus_keeps_every_doors_promises() {
    for (name, target) in targets::ALL {
        let files = std::fs::read_dir(checkout(&format!("fuzz/corpus/{name}"))).expect("each target has a corpus");
        let (mut taken, mut refused) = (0, 0);
        for file in files {
            let path = file.expect("a file").path();
            let input = std::fs::read(&path).expect("an input");
            match std::panic::catch_unwind(|| targets::run(target, &input)) {
                Ok(true) => taken += 1,
                Ok(false) => refused += 1,
                Err(_) => panic!("{} breaks a promise of {name}; the lines above say which", path.display()),
            }
        }
        assert!(taken > 0 && refused > 0, "{name} takes {taken} and refuses {refused} inputs");
    }
}
