//! What the containers may do, read from `Dockerfile` and `docker-compose.yml`: little; and that neither tells a secret.

use serde_json::Value;

use crate::stack::checkout;

const SERVERS: [&str; 3] = ["postgres", "rabbitmq", "redis"];
/// Done once and gone.
const ONE_SHOTS: [&str; 3] = ["keys", "migrate", "desk"];

fn read(path: &str) -> String {
    std::fs::read_to_string(checkout(path)).expect(path)
}

fn composed() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML")
}

/// A member of a service, its own or from the template that it is merged with.
fn member<'a>(service: &'a Value, name: &str) -> &'a Value {
    if service[name].is_null() && service["<<"].is_object() { member(&service["<<"], name) } else { &service[name] }
}

#[test]
fn s6_4_every_container_is_read_only_unprivileged_and_limited() {
    let composed = composed();
    for (name, service) in composed["services"].as_object().expect("services") {
        let is = |setting: &str| member(service, setting).clone();
        assert_eq!(is("read_only"), true, "{name} can change its own file system");
        assert_eq!(is("cap_drop"), serde_json::json!(["ALL"]), "{name}");
        assert_eq!(is("security_opt"), serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(is("ulimits")["core"], 0, "{name} may leave a dump with keys in it");
        for right in ["privileged", "cap_add", "network_mode", "pid", "ipc", "devices"] {
            assert!(is(right).is_null(), "{name} has {right}");
        }
        assert!(is("deploy")["resources"]["limits"]["memory"].is_string(), "{name} may take all memory");
        let image = is("image").as_str().expect("an image").to_owned();
        let is_ours = is("build").is_object();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(is_ours || tag.is_some_and(|tag| tag != "latest"), "{name} runs whatever {image} is today");
        // Ours says so in its Dockerfile.
        assert!(is_ours || is("user").as_str().is_some_and(|user| user != "root"), "{name} runs as root");
        let is_watched = is_ours || is("healthcheck")["test"].is_array();
        assert!(is_watched || ONE_SHOTS.contains(&name.as_str()), "nobody knows whether {name} is well");
        for port in is("ports").as_array().into_iter().flatten() {
            assert!(port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")), "{name} is open to all: {port}");
        }
        for volume in is("volumes").as_array().into_iter().flatten() {
            assert!(!volume.as_str().unwrap_or_default().contains("docker.sock"), "{name} commands Docker");
        }
    }
}

#[test]
fn s6_4_no_secret_is_written_into_a_file_of_the_checkout() {
    let composed = composed();
    for (name, service) in composed["services"].as_object().expect("services") {
        let mut given = member(service, "environment");
        while let Some(settings) = given.as_object() {
            for (setting, value) in settings.iter().filter(|(_, value)| value.is_string()) {
                let text = value.as_str().unwrap_or_default();
                let is_secret = ["PASSWORD", "SECRET", "__KEY"].iter().any(|end| setting.ends_with(end));
                let has_password = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
                assert!(!(is_secret || has_password) || text.contains("${"), "{name} is given {setting} in clear");
            }
            given = &given["<<"];
        }
    }
    // What is secret is made on the machine where it is used (tests/it/rights_files.rs), outside git and the images.
    assert!(read(".gitignore").lines().any(|line| line == "/secrets/"));
    for (name, secret) in composed["secrets"].as_object().expect("secrets") {
        let file = secret["file"].as_str().expect("a file");
        assert!(file.starts_with("${HOLDFAST_SECRETS:-./secrets}/"), "{name} comes from {file}");
    }
    for server in SERVERS {
        assert!(composed["services"][server].is_object(), "{server} has another name");
    }
}

#[test]
fn s6_4_the_image_is_pinned_runs_as_nobody_and_says_whether_it_is_well() {
    let dockerfile = read("Dockerfile");
    let steps: Vec<&str> =
        dockerfile.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let of = |word: &'static str| steps.iter().filter(move |step| step.split(' ').next() == Some(word)).copied();
    let stages: Vec<&str> = of("FROM").filter_map(|step| step.split(" AS ").nth(1)).collect();
    for from in of("FROM").filter_map(|step| step.split(' ').nth(1)).filter(|from| !stages.contains(from)) {
        let (_, tag) = from.split_once(':').unwrap_or_else(|| panic!("{from} has no tag"));
        assert!(tag != "latest" && tag.contains("slim"), "{from}");
    }
    // Every image that is built for use comes from `base`, behind these two.
    let base = steps.iter().position(|step| step.ends_with(" AS base")).expect("a base");
    let next = steps[base + 1..].iter().position(|step| step.starts_with("FROM")).expect("an image") + base;
    let base = &steps[base..=next];
    assert!(base.iter().any(|step| step.starts_with("USER ") && *step != "USER root" && *step != "USER 0"));
    assert!(base.iter().any(|step| step.starts_with("HEALTHCHECK ")));
    for image in ["simulator", "holdfast"] {
        assert!(steps.contains(&format!("FROM base AS {image}").as_str()), "{image}");
    }
    assert!(of("USER").all(|step| step == "USER 10001"), "an image goes back to another user");
    assert_eq!(of("ADD").count(), 0, "COPY says what it copies");
    for run in of("RUN").chain(of("ENV")) {
        assert!(!run.contains("sudo") && !run.contains("| sh"), "{run}");
    }
    assert!(!dockerfile.contains("SECRET") && !dockerfile.contains("PASSWORD"), "a layer keeps what it is given");
    assert!(dockerfile.contains("apt-get install --yes --no-install-recommends"));
    assert!(of("ENTRYPOINT").all(|step| step.starts_with("ENTRYPOINT [")), "a shell would take the signals");
    assert!(
        read(".dockerignore").lines().any(|line| line == ".env" || line == ".env*" || line == "*"),
        ".env is copied"
    );
}
