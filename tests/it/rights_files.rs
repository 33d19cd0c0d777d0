//! Least privilege for what is secret: what units, pods and containers give each role, read from the files that install
//! them and compared with `src/process/secrets.rs`. A role is given what it needs and no more, and no two roles share a
//! user, or a file or Secret that one of them does not need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use holdfast::{
    config,
    process::{
        role::Role,
        secrets::{Need, Secret},
    },
};
use serde_json::Value;

use crate::stack::checkout;

type Environment = BTreeMap<String, String>;

fn read(path: &str) -> String {
    fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `NAME=value` lines, as systemd and a shell read them.
fn lines(text: &str) -> Environment {
    let given = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    given.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

/// Which secrets an environment carries, each by how many settings.
fn secrets_in(environment: &Environment) -> Vec<(Secret, usize)> {
    let loaded = config::load(environment.clone());
    let carried = |secret: Secret| {
        loaded.shown.iter().filter(|shown| secret.settings().contains(&shown.setting.as_str())).count()
    };
    Secret::ALL.into_iter().map(|secret| (secret, carried(secret))).filter(|(_, count)| *count > 0).collect()
}

/// The environment of a role carries each secret that it needs once, and no other.
fn carries_what_it_needs(place: &str, role: Role, environment: &Environment) {
    let settings = config::load(environment.clone()).settings.expect("every name is a setting's");
    let needed = Secret::ALL.into_iter().filter(|secret| role.needs(*secret).holds(&settings));
    assert_eq!(secrets_in(environment), needed.map(|secret| (secret, 1)).collect::<Vec<_>>(), "{place}, {role:?}");
}

/// The user and password of an address.
fn login(address: &str) -> (&str, &str) {
    let (_, rest) = address.split_once("://").expect("an address");
    let (login, _) = rest.split_once('@').expect("a login");
    login.split_once(':').expect("a password")
}

fn has_its_accounts(place: &str, role: Role, environment: &Environment) {
    for account in role.accounts() {
        let (user, _) = login(&environment[account.setting]);
        assert_eq!(user, format!("holdfast_{}", account.kind), "{place}, {role:?}, {}", account.setting);
    }
}

#[track_caller]
fn all_differ<T: Ord + std::fmt::Debug>(what: &str, values: Vec<T>) {
    let count = values.len();
    let distinct: BTreeSet<T> = values.into_iter().collect();
    assert_eq!(distinct.len(), count, "{what}: {distinct:?}");
}

// systemd

/// What systemd makes of a unit: its file and the drop-ins of its prefix, its template and its instance, with the
/// instance's name put in.
struct Unit {
    name: String,
    lines: Vec<(String, String)>,
}

impl Unit {
    fn of(template: &str, instance: &str) -> Self {
        let folder = checkout("deploy/systemd");
        let mut texts = vec![read(&format!("deploy/systemd/{template}.service"))];
        for drop_ins in ["holdfast-", template, &format!("{template}{instance}")] {
            let Ok(entries) = fs::read_dir(folder.join(format!("{drop_ins}.service.d"))) else { continue };
            for entry in entries {
                texts.push(fs::read_to_string(entry.expect("an entry").path()).expect("a drop-in"));
            }
        }
        let name = format!("{template}{instance}.service");
        let credentials = format!("/run/credentials/{name}");
        let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with(['#', '[']));
        let lines = lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace("%i", instance).replace("%d", &credentials)));
        Self { lines: lines.collect(), name }
    }

    fn of_role(role: Role) -> Self {
        match role {
            Role::Api => Self::of("holdfast-api@", "1"),
            Role::Worker(worker) => Self::of("holdfast-worker@", worker.name()),
        }
    }

    fn all(&self, key: &str) -> Vec<&str> {
        self.lines.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, key: &str) -> &str {
        let all = self.all(key);
        assert_eq!(all.len(), 1, "{} has {key}={all:?}", self.name);
        all[0]
    }

    /// Files that systemd copies to where this unit alone reads them, by the name that they have there.
    fn credentials(&self) -> BTreeMap<&str, &str> {
        self.all("LoadCredential").into_iter().map(|line| line.split_once(':').expect("NAME:FILE")).collect()
    }

    fn environment(&self) -> Environment {
        let mut environment = lines(&self.all("Environment").join("\n"));
        for file in self.all("EnvironmentFile") {
            environment.extend(installed(file).unwrap_or_default());
        }
        environment
    }
}

/// The file of the checkout that becomes this one; none for one that may be absent.
fn installed(file: &str) -> Option<Environment> {
    if file.starts_with('-') {
        return None;
    }
    let name = file.strip_prefix("/etc/holdfast/").and_then(|name| name.strip_suffix(".env")).expect("a file of ours");
    Some(lines(&match name {
        "settings" => read("deploy/settings.env"),
        "api" | "upgrade" | "desk" => read(&format!("deploy/roles/{name}.env")),
        worker => read("deploy/roles/worker.env").replace("ROLE", worker),
    }))
}

/// F5: one user ran all units, and its group could read every key.
#[test]
fn f5_each_unit_has_a_user_of_its_own_and_reads_its_own_secrets_alone() {
    let mut users = Vec::new();
    for role in Role::all() {
        let unit = Unit::of_role(role);
        users.push(unit.one("User").to_owned());
        assert_eq!(unit.one("DynamicUser"), "yes", "{}", unit.name);
        for key in ["Group", "SupplementaryGroups", "PassEnvironment", "ReadWritePaths"] {
            assert!(unit.all(key).is_empty(), "{} has {key}", unit.name);
        }
        let environment = unit.environment();
        carries_what_it_needs("systemd", role, &environment);
        has_its_accounts("systemd", role, &environment);
        // The files with passwords: one of its own, beside what all share and what an instance listens on.
        let own = format!("/etc/holdfast/{}.env", role.name());
        let given = unit.all("EnvironmentFile");
        let given: Vec<&str> = given.into_iter().filter(|file| !file.starts_with('-')).collect();
        assert_eq!(given, ["/etc/holdfast/settings.env", &own], "{}", unit.name);
        // Keys come as credentials, each named by one setting.
        let named: BTreeSet<&str> = environment
            .values()
            .filter_map(|value| value.strip_prefix(&format!("/run/credentials/{}/", unit.name)))
            .collect();
        let credentials = unit.credentials();
        assert_eq!(credentials.keys().copied().collect::<BTreeSet<_>>(), named, "{}", unit.name);
        for (name, file) in credentials {
            assert_eq!(file, format!("/etc/holdfast/keys/{name}"), "{}", unit.name);
        }

        // I2: the check of a role reads what the role reads, as the same user.
        let check = Unit::of("holdfast-check@", role.name());
        assert_eq!(check.one("User"), unit.one("User"));
        assert_eq!(check.credentials(), unit.credentials());
        assert_eq!(check.one("ExecStart").rsplit_once(" --role ").map(|(_, name)| name), Some(role.name()));
        let plain = |unit: &Unit| {
            let paths = unit.environment().into_iter();
            paths.map(|(name, value)| (name, value.replace(&unit.name, ""))).collect::<Environment>()
        };
        assert_eq!(plain(&check), plain(&unit), "{}", check.name);
    }
    let upgrade = Unit::of("holdfast-upgrade", "");
    users.push(upgrade.one("User").to_owned());
    all_differ("users", users);
    assert!(upgrade.credentials().is_empty());
    let environment = upgrade.environment();
    assert_eq!(secrets_in(&environment), [(Secret::Database, 1), (Secret::Broker, 1)]);
    assert_eq!(login(&environment["DATABASE_URL"]).0, "holdfast_owner");
}

/// F5: what all may read holds no secret, and names no file that holds one.
#[test]
fn f5_what_all_share_is_no_secret() {
    let shared = lines(&read("deploy/settings.env"));
    assert!(secrets_in(&shared).is_empty(), "{:?}", secrets_in(&shared));
    for (name, value) in shared {
        assert!(!value.starts_with("/etc/holdfast/keys"), "{name} names {value}");
    }
    // Operators' commands, and only they, have every secret that a command may need.
    let mut desk = lines(&read("deploy/settings.env"));
    desk.extend(lines(&read("deploy/roles/desk.env")));
    assert_eq!(login(&desk["DATABASE_URL"]).0, "holdfast_desk");
    let settings = config::load(desk).settings.expect("every name is a setting's");
    assert!(settings.wechat_pay.apiv3_key_file.is_some());
}

// Kubernetes

fn rendered(argument: Option<&str>, certificates: bool) -> Vec<Value> {
    let mut script = Command::new(checkout("deploy/kubernetes/render"));
    script.args(argument).env("IMAGE", "registry.example.com/holdfast:1.0").env_remove("PROMETHEUS_URL");
    let switch = if certificates { "yes" } else { "" };
    script.env("PLATFORM_CERTIFICATES", switch).env("SHARED_TOKEN_SECRET", switch);
    let output = script.output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).expect("UTF-8")).expect("YAML")
}

fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// What a pod's container has in its environment, and the Secrets that it comes from.
fn pods_environment(pod: &Value, container: &Value) -> (Environment, BTreeSet<String>) {
    let mut environment = lines(&read("deploy/settings.env"));
    let mut sources = BTreeSet::new();
    for variable in items(container, "/env") {
        let value = match variable.get("value").and_then(Value::as_str) {
            Some(value) => value.to_owned(),
            None => {
                assert_eq!(text(variable, "/valueFrom/secretKeyRef/key"), text(variable, "/name"));
                assert!(variable.pointer("/valueFrom/secretKeyRef/optional").is_none(), "{variable} may be absent");
                sources.insert(text(variable, "/valueFrom/secretKeyRef/name").to_owned());
                "postgres://u:p@h/d".to_owned()
            }
        };
        environment.insert(text(variable, "/name").to_owned(), value);
    }
    for source in items(container, "/envFrom") {
        assert_eq!(text(source, "/configMapRef/name"), "holdfast", "{source} gives a role all that it holds");
    }
    // Files: those that the settings name, and no others.
    let mut files = BTreeSet::new();
    for volume in items(pod, "/volumes").filter(|volume| volume.get("configMap").is_none()) {
        sources.insert(text(volume, "/secret/secretName").to_owned());
        let mounts = || items(container, "/volumeMounts");
        let mount = mounts().find(|mount| text(mount, "/name") == text(volume, "/name")).expect("a mount");
        let folder = text(mount, "/mountPath");
        assert!(items(volume, "/secret/items").count() > 0, "{volume} mounts a whole Secret");
        files.extend(items(volume, "/secret/items").map(|item| format!("{folder}/{}", text(item, "/path"))));
    }
    let named: BTreeSet<String> =
        environment.values().filter(|value| value.starts_with("/run/holdfast/keys/")).cloned().collect();
    assert_eq!(files, named);
    (environment, sources)
}

/// F5: one Secret was mounted into every pod.
#[test]
fn f5_each_pod_has_a_user_and_a_secret_of_its_own() {
    for certificates in [false, true] {
        let objects = rendered(None, certificates);
        let mut users = Vec::new();
        for role in Role::all() {
            let name = format!("holdfast-{}", role.name());
            let is_it = |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == name.as_str();
            let pod = &objects.iter().find(is_it).expect("a deployment")["spec"]["template"]["spec"];
            assert_eq!(items(pod, "/containers").count() + items(pod, "/initContainers").count(), 1);
            let (mut environment, sources) = pods_environment(pod, &pod["containers"][0]);
            assert_eq!(sources, BTreeSet::from([name]));
            if certificates {
                environment.insert("HOLDFAST_WECHAT_PAY__PLATFORM_CERTIFICATES".into(), "true".into());
                environment.insert("HOLDFAST_AUTH__ALGORITHM".into(), "HS256".into());
            }
            carries_what_it_needs("Kubernetes", role, &environment);
            for account in role.accounts() {
                assert!(environment.contains_key(account.setting), "{role:?} lacks {}", account.setting);
            }
            users.push(pod["securityContext"]["runAsUser"].as_u64().expect("a number"));
            assert_eq!(pod["automountServiceAccountToken"], false);
        }
        let upgrade = rendered(Some("upgrade"), certificates);
        let [job] = &upgrade[..] else { panic!("{} objects", upgrade.len()) };
        let pod = &job["spec"]["template"]["spec"];
        for container in items(pod, "/containers").chain(items(pod, "/initContainers")) {
            let (environment, sources) = pods_environment(pod, container);
            assert_eq!(sources, BTreeSet::from(["holdfast-upgrade".to_owned()]));
            assert_eq!(secrets_in(&environment), [(Secret::Database, 1), (Secret::Broker, 1)]);
        }
        users.push(pod["securityContext"]["runAsUser"].as_u64().expect("a number"));
        all_differ("users", users);
    }
}

/// F5: what a studio is told to put into each Secret is what the pod takes from it.
#[test]
fn f5_the_list_of_secrets_for_kubernetes_is_complete() {
    let document = read("deploy/kubernetes/README.md");
    for role in Role::all() {
        let begin = format!("| `holdfast-{}` | ", role.name());
        let row = document.lines().find(|line| line.starts_with(&begin)).expect("a row");
        let files = row.rsplit(" | ").next().expect("a column").split('`').skip(1).step_by(2);
        let objects = rendered(None, false);
        let name = format!("holdfast-{}", role.name());
        let is_it = |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == name.as_str();
        let pod = &objects.iter().find(is_it).expect("a deployment")["spec"]["template"]["spec"];
        let mounted = items(pod, "/volumes").flat_map(|volume| items(volume, "/secret/items"));
        let mounted: BTreeSet<&str> = mounted.map(|item| text(item, "/key")).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), mounted, "{row}");
    }
}

// Containers

/// A member of a service, its own or from the template that it is merged with.
fn member<'a>(service: &'a Value, name: &str) -> &'a Value {
    if service[name].is_null() && service["<<"].is_object() { member(&service["<<"], name) } else { &service[name] }
}

/// A service's environment, with that of the template.
fn environment_of(given: &Value) -> Environment {
    let mut environment = if given["<<"].is_object() { environment_of(&given["<<"]) } else { Environment::new() };
    for (name, value) in given.as_object().expect("a map").iter().filter(|(name, _)| *name != "<<") {
        environment.insert(name.clone(), value.as_str().expect("a text").to_owned());
    }
    environment
}

/// The volumes of a service: name and place.
fn volumes(service: &Value) -> Vec<(&str, &str)> {
    let all =
        member(service, "volumes").as_array().into_iter().flatten().map(|volume| volume.as_str().expect("a text"));
    all.map(|volume| volume.split_once(':').expect("NAME:PLACE"))
        .map(|(name, place)| (name, place.trim_end_matches(":ro")))
        .collect()
}

/// What `deploy/compose/secrets` makes, in a directory of its own.
fn made(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    let mut script = Command::new(checkout("deploy/compose/secrets"));
    for name in ["POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "REDIS_PASSWORD", "PERSONAL_KEY"] {
        script.env_remove(name);
    }
    assert!(script.arg(&folder).status().expect("the script runs").success());
    folder
}

/// F5: every container had every key, and the password of the owner.
#[test]
fn f5_each_container_has_a_user_a_secret_and_passwords_of_its_own() {
    let composed: Value = serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML");
    let folder = made("compose-secrets");
    assert_eq!(fs::metadata(&folder).expect("a directory").permissions().mode() & 0o777, 0o700);
    let (mut users, mut passwords) = (Vec::new(), Vec::new());
    for role in Role::all() {
        let service = &composed["services"][role.name()];
        users.push(text(service, "/user").to_owned());
        let [secret] = &items(service, "/secrets").collect::<Vec<_>>()[..] else { panic!("{role:?}: not one secret") };
        assert_eq!((text(secret, "/source"), text(secret, "/target")), (role.name(), "role"));
        let file = text(&composed, &format!("/secrets/{}/file", role.name()));
        assert_eq!(file, format!("${{HOLDFAST_SECRETS:-./secrets}}/{}.env", role.name()));
        let shared = environment_of(member(service, "environment"));
        let own = lines(&fs::read_to_string(folder.join(format!("{}.env", role.name()))).expect("a file"));
        for (secret, _) in secrets_in(&shared) {
            assert!(
                secret.settings().iter().any(|setting| setting.ends_with("_file")),
                "{role:?}: {secret:?} in clear"
            );
        }
        let mut environment = shared;
        environment.extend(own.clone());
        carries_what_it_needs("compose", role, &environment);
        has_its_accounts("compose", role, &environment);
        passwords.extend(role.accounts().iter().map(|account| login(&own[account.setting]).1.to_owned()));
        // A volume is mounted for a key that a setting names; what all have holds none.
        for (name, place) in volumes(service).into_iter().filter(|(name, _)| *name != "public") {
            assert_ne!(name, "wechat", "{role:?} has what WeChat itself would keep");
            let begin = format!("{place}/");
            assert!(environment.values().any(|value| value.starts_with(&begin)), "{role:?} has {name} for nothing");
        }
    }
    let owner = lines(&fs::read_to_string(folder.join("migrate.env")).expect("a file"));
    assert_eq!(secrets_in(&owner), [(Secret::Database, 1)]);
    passwords.push(login(&owner["DATABASE_URL"]).1.to_owned());
    users.extend(["migrate", "desk"].map(|service| text(&composed["services"][service], "/user").to_owned()));
    all_differ("users", users);
    all_differ("passwords", passwords);

    // The servers know the same passwords.
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let users: Value = serde_json::from_str(&read("rabbitmq_users.json")).expect("JSON");
    for role in Role::all() {
        let own = lines(&read(&format!("{}.env", role.name())));
        for account in role.accounts() {
            let (user, password) = login(&own[account.setting]);
            let is_known = match account.server {
                "AMQP_URL" => items(&users, "/users").any(|row| row["name"] == user && row["password"] == password),
                _ => read("postgres_roles.sql").contains(&format!("ALTER ROLE {user} PASSWORD '{password}';")),
            };
            assert!(is_known, "{role:?}, {}", account.setting);
        }
    }
    // A second run changes nothing that the first has made.
    let before = read("api.env");
    assert!(Command::new(checkout("deploy/compose/secrets")).arg(&folder).status().expect("it runs").success());
    assert_eq!(read("api.env"), before);
}

// The program

/// F5: a role is checked for what it reads, and refuses a secret that it does not need.
#[test]
fn f5_config_check_knows_what_each_role_needs() {
    let folder = made("checked-secrets");
    let check = |role: Role, more: &[(&str, &str)]| {
        let own = lines(&fs::read_to_string(folder.join(format!("{}.env", role.name()))).expect("a file"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.args(["config", "check", "--role", role.name()]).env_clear().envs(own);
        command.env("HOLDFAST_WECHAT_PAY__APPID", "wx8888888888888888").env("HOLDFAST_WECHAT_PAY__MCHID", "1900000109");
        let output = command.envs(more.iter().copied()).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut refused = 0;
    for role in Role::all() {
        // What lacks is of the parts that the role reads.
        let (_, words) = check(role, &[]);
        let loads = role.loads();
        for (section, is_read) in [
            ("personal.", loads.personal),
            ("auth.", loads.ingress),
            ("official_account.", loads.official_account),
            ("wechat_pay.merchant_private_key", role.needs(Secret::MerchantKey) != Need::Never),
        ] {
            assert!(is_read || !words.contains(section), "{role:?}: {words}");
        }
        // A secret that it has no use for is named.
        for secret in Secret::ALL {
            if role.needs(secret) != Need::Never {
                continue;
            }
            let setting = secret.settings()[0];
            let name = format!("HOLDFAST_{}", setting.to_uppercase().replace('.', "__"));
            let (code, words) = check(role, &[(&name, "postgres://u:p@h/d")]);
            let told = format!("{setting} is given, and {} does not need it", role.name());
            assert!(code == Some(2) && words.contains(&told), "{role:?}: {words}");
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
    let payments = Role::of_name("payments").expect("a role");
    assert_eq!(check(payments, &[]), (Some(0), String::new()));
    let (code, words) = check(payments, &[("HOLDFAST_WECHAT_PAY__MCHID", "x")]);
    assert!(code == Some(2) && words.contains("wechat_pay.mchid must be"), "{words}");
}
