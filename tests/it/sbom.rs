//! What the executable is made of is told: `./dev sbom`, read as the specification of CycloneDX 1.6 says.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::stack::checkout;

#[test]
fn s7_3_the_sbom_names_every_crate_of_the_executable_with_licence_and_checksum() {
    let made = Command::new(checkout("dev")).arg("sbom").output().expect("./dev sbom");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let written = std::fs::read(checkout("target/sbom.cdx.json")).expect("the document");
    let sbom: Value = serde_json::from_slice(&written).expect("JSON");

    assert_eq!(
        (&sbom["bomFormat"], &sbom["specVersion"], &sbom["version"]),
        (&"CycloneDX".into(), &"1.6".into(), &1.into())
    );
    let program = &sbom["metadata"]["component"];
    assert_eq!((&program["type"], &program["name"]), (&"application".into(), &"holdfast".into()));
    assert_eq!(program["version"], env!("CARGO_PKG_VERSION"));

    let mut names = BTreeSet::from([text(&program["bom-ref"])]);
    for component in list(&sbom["components"]) {
        let name = text(&component["name"]);
        assert_eq!(component["type"], "library", "{name}");
        assert_eq!(text(&component["purl"]), format!("pkg:cargo/{name}@{}", text(&component["version"])));
        assert!(component["licenses"][0]["expression"].is_string(), "{name} has no licence");
        assert_eq!(component["hashes"][0]["alg"], "SHA-256", "{name}");
        let digest = text(&component["hashes"][0]["content"]);
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {digest}");
        assert!(names.insert(text(&component["bom-ref"])), "{name} is there twice");
        for banned in ["rsa", "ring", "openssl", "openssl-sys", "native-tls", "backoff"] {
            assert_ne!(name, banned, "deny.toml says why");
        }
    }
    for crate_we_name in ["tokio", "axum", "sqlx", "lapin", "redis", "rustls", "aws-lc-rs"] {
        assert!(names.iter().any(|name| name.starts_with(&format!("pkg:cargo/{crate_we_name}@"))), "{crate_we_name}");
    }
    // Each stands in the graph once, and what it asks for is there.
    let graph = list(&sbom["dependencies"]);
    assert_eq!(graph.iter().map(|node| text(&node["ref"])).collect::<BTreeSet<_>>(), names);
    for node in graph {
        for dependency in list(&node["dependsOn"]) {
            assert!(names.contains(&text(dependency)), "{dependency} of {} is missing", node["ref"]);
        }
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
