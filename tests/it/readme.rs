//! The journey that README.md shows, run as a stranger would: pasted into a shell.

use std::{fs, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::stack::{Stack, checkout};

/// Far above the second that it takes, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn s7_5_the_journey_in_the_readme_ends_confirmed() {
    runs("README.md").await;
}

#[tokio::test]
async fn s7_5_the_journey_in_the_chinese_readme_ends_confirmed() {
    runs("README.zh-CN.md").await;
}

async fn runs(document: &str) {
    let stack = Stack::start(&format!("journey-of-{document}")).await;
    stack.add_schedule(3).await;
    // What `eval "$(./dev env)"` does: the settings, and the executable on the path.
    let executable = std::path::Path::new(env!("CARGO_BIN_EXE_holdfast"));
    let path = format!("{}:/usr/bin:/bin", executable.parent().expect("a folder").display());
    let shell = Command::new("bash")
        .args(["-euc", &journey(document)])
        .env_clear()
        .envs(&stack.environment)
        .env("PATH", path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, shell).await.expect("the journey ends").expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(r#""status":"awaiting_payment""#), "{said}");
    assert!(said.contains(r#""status":"confirmed""#), "{said}");
    assert!(said.contains("transaction_id"), "{said}");
    assert_eq!(stack.messages_to("ann").await.len(), 1, "{said}");
    stack.check_invariants().await;
}

/// The block after `<!-- journey -->`.
fn journey(document: &str) -> String {
    let text = fs::read_to_string(checkout(document)).expect("the document");
    let block = text.split_once("<!-- journey -->").and_then(|(_, rest)| rest.split_once("```sh\n"));
    let (script, _) = block.and_then(|(_, rest)| rest.split_once("```")).expect("a marked block");
    script.to_owned()
}
