//! What `deploy/kubernetes/render` prints: an object for every role, each worker scaled by its own queues, pods that
//! may do little and have time to drain.

use std::{collections::BTreeSet, process::Command};

use holdfast::domain::message::Queue;
use serde_json::Value;

use crate::stack::{WORKERS, checkout};

/// What the script prints, with or without a Prometheus that KEDA may ask.
fn rendered(prometheus: &str) -> Vec<Value> {
    let mut script = Command::new(checkout("deploy/kubernetes/render"));
    script.env("IMAGE", "registry.example.com/holdfast:1.0").env("PROMETHEUS_URL", prometheus);
    let output = script.output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).expect("UTF-8")).expect("YAML")
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn names(objects: &[&Value]) -> BTreeSet<String> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn p4_every_role_has_its_deployment_and_may_be_disrupted_one_by_one() {
    let objects = rendered("");
    let roles: BTreeSet<String> =
        ["api", "reconcile"].into_iter().chain(WORKERS).map(|role| format!("holdfast-{role}")).collect();
    let deployments = of_kind(&objects, "Deployment");
    assert_eq!(names(&deployments), roles);
    assert_eq!(names(&of_kind(&objects, "PodDisruptionBudget")), roles);
    let grace = holdfast::config::load([]).settings.map(|settings| settings.process.grace_seconds).unwrap_or(25);
    for deployment in deployments {
        let pod = &deployment["spec"]["template"]["spec"];
        let name = deployment["metadata"]["name"].as_str().expect("a name");
        let role = name.trim_start_matches("holdfast-");
        let arguments = &pod["containers"][0]["args"];
        let wanted = if role == "api" { serde_json::json!(["api"]) } else { serde_json::json!(["worker", role]) };
        assert_eq!(*arguments, wanted);
        assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(grace), "{name} is killed while it drains");
        assert!(deployment["spec"]["replicas"].as_u64() >= Some(2), "{name} is alone");
        // F9: health has a port of its own, also where customers have one.
        let container = &pod["containers"][0];
        let ports: Vec<_> = container["ports"].as_array().expect("ports").iter().map(|port| &port["name"]).collect();
        assert_eq!(ports, if role == "api" { vec!["http", "health"] } else { vec!["health"] });
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "health", "{probe} of {name}");
        }
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (&container["readOnlyRootFilesystem"], &container["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"]);
    }
}

#[test]
fn p4_each_worker_scales_by_its_own_queues_and_by_how_long_they_wait() {
    let objects = rendered("http://prometheus:9090");
    let scaled = of_kind(&objects, "ScaledObject");
    let workers: BTreeSet<String> = WORKERS.iter().map(|worker| format!("holdfast-{worker}")).collect();
    assert_eq!(names(&scaled), workers);
    let mut covered = Vec::new();
    for object in scaled {
        let name = object["metadata"]["name"].as_str().expect("a name");
        assert_eq!(object["spec"]["scaleTargetRef"]["name"], name);
        assert!(object["spec"]["minReplicaCount"].as_u64() >= Some(2), "{name} may not sleep: deadlines do not");
        let by_queue = &object["spec"]["triggers"][0]["metadata"];
        // What is in hand counts as work, or a pod would be taken away from under it.
        assert_eq!((&by_queue["protocol"], &by_queue["excludeUnacknowledged"]), (&"http".into(), &"false".into()));
        let pattern = by_queue["queueName"].as_str().expect("a pattern");
        let worker = name.trim_start_matches("holdfast-");
        let own = Queue::all().map(Queue::name).filter(|queue| match worker {
            "seats" => queue.starts_with("orders."),
            other => queue == other,
        });
        for queue in own {
            assert!(matches(pattern, &queue), "{name}: {pattern} does not cover {queue}");
            covered.push(queue);
        }
        let by_age = object["spec"]["triggers"][1]["metadata"]["query"].as_str().expect("a query");
        assert!(by_age.contains(&format!("queue=~\"{pattern}\"")), "{by_age}");
    }
    covered.sort_unstable();
    let mut all: Vec<String> = Queue::all().map(Queue::name).collect();
    all.sort_unstable();
    assert_eq!(covered, all);
}

/// The two shapes the script uses: `^name$` and `^orders[.][0-7]$`.
fn matches(pattern: &str, queue: &str) -> bool {
    let bare = pattern.trim_start_matches('^').trim_end_matches('$');
    match bare.split_once("[.][0-7]") {
        Some((stem, "")) => queue
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|lane| lane.parse::<u8>().is_ok_and(|lane| lane < 8)),
        _ => bare == queue,
    }
}

#[test]
fn p4_only_customers_and_prometheus_reach_a_pod() {
    let objects = rendered("");
    let policies = of_kind(&objects, "NetworkPolicy");
    let nothing = policies.iter().find(|policy| policy["metadata"]["name"] == "holdfast-nothing-else").expect("it");
    assert_eq!(nothing["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    for policy in policies {
        for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
            assert!(rule["from"][0]["namespaceSelector"].is_object(), "{policy} is open to everybody");
        }
    }
}
