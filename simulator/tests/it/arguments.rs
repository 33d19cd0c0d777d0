//! What the executable takes from its command line, and what it does not.

use std::process::Command;

/// F14: arguments are listed to every user of the machine.
#[test]
fn f14_the_official_accounts_secret_is_no_argument() {
    let simulator = |arguments: &[&str], secret: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sim"));
        command.args(["serve", "--keys", "/dev/null/keys"]).args(arguments).env_clear();
        command.envs(secret.map(|secret| ("WECHAT_SIM_OFFICIAL_ACCOUNT_SECRET", secret)));
        let output = command.output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = simulator(&["--official-account-secret", "s"], None);
    assert!(code == Some(2) && words.contains("--official-account-secret"), "{words}");
    // Read before the keys, which are missing here.
    let (_, words) = simulator(&["--official-account-secret-file", "/nowhere/secret"], None);
    assert!(words.contains("cannot read /nowhere/secret"), "{words}");
    let (_, words) = simulator(&[], Some(" "));
    assert!(words.contains("the Official Account's secret is empty"), "{words}");
    let (_, words) = simulator(&[], Some("s"));
    assert!(!words.contains("secret"), "{words}");
}
