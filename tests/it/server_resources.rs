//! Databases and virtual hosts of a test's own, made on the shared private servers and gone with the test.

use std::{future::Future, path::Path, sync::Arc};

use holdfast::store::{Database, Plans};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Answer, until};

/// Where a server is, as `./dev test` tells it.
pub(crate) fn server(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `./dev test`, or eval \"$(./dev servers)\" first"))
}

pub(crate) fn database_url(name: &str) -> String {
    let (server, _) =
        server("DATABASE_URL").rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a URL");
    // On this machine a wire needs no encryption, and the client would ask for it.
    format!("{server}/{name}?sslmode=disable")
}

pub(crate) async fn make_database(name: &str) -> PgPool {
    let mut admin = PgConnection::connect(&server("DATABASE_URL")).await.expect("PostgreSQL");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.expect("a database");
    PgPool::connect_lazy(&database_url(name)).expect("a pool")
}

/// A database with this release's schema, copied from one that was migrated once: a hundred migrations less in a run.
/// The rights on the database itself are not copied; `migrate` gives them.
pub(crate) async fn copy_database(name: &str) -> PgPool {
    let template = MIGRATED.get_or_init(migrated).await;
    let mut admin = PgConnection::connect(&server("DATABASE_URL")).await.expect("PostgreSQL");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}"));
    admin.execute(create).await.expect("a copy");
    PgPool::connect_lazy(&database_url(name)).expect("a pool")
}

static MIGRATED: OnceCell<String> = OnceCell::const_new();

/// The database that is copied. It is named by what made it, so that it outlives the run, and renamed when it is whole.
async fn migrated() -> String {
    let mut admin = PgConnection::connect(&server("DATABASE_URL")).await.expect("PostgreSQL");
    let name = format!("migrated_{}", schema_hash());
    let known = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    // One of several test programs makes it; the lock ends with the connection.
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&name).execute(&mut admin).await.expect("a lock");
    let exists: bool = sqlx::query_scalar(known).bind(&name).fetch_one(&mut admin).await.expect("a list");
    if !exists {
        let unfinished = format!("{name}_unfinished");
        drop_database(&unfinished).await;
        make_database(&unfinished).await;
        let db = Database::open(&database_url(&unfinished).into(), 1, Plans::Chosen).expect("a readable URL");
        // Not in this future, which has to be `Send`.
        let handle = tokio::runtime::Handle::current();
        let migrated = tokio::task::spawn_blocking(move || {
            handle.block_on(async {
                db.migrate().await.expect("the schema");
                db.pool().close().await;
            });
        });
        migrated.await.expect("migrated");
        let rename = format!("ALTER DATABASE {unfinished} RENAME TO {name}");
        admin.execute(sqlx::AssertSqlSafe(rename)).await.expect("renamed");
    }
    admin.close().await.expect("unlocked");
    name
}

fn schema_hash() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let migrations = std::fs::read_dir(root.join("migrations")).expect("the migrations");
    let mut files: Vec<_> = migrations.map(|entry| entry.expect("a file").path()).collect();
    files.push(root.join("src/store/rights.sql"));
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(&file).expect("a readable file"));
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn drop_database(name: &str) {
    if let Ok(mut admin) = PgConnection::connect(&server("DATABASE_URL")).await {
        let _ = admin.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await;
    }
}

/// Forgets all keys that begin with this. Claims stand for a day, and a full Redis refuses to learn.
pub(crate) async fn drop_keys(prefix: &str) {
    let Ok(client) = redis::Client::open(server("REDIS_URL")) else { return };
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return };
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(1_000);
        let Ok((next, keys)) = scan.query_async::<(u64, Vec<String>)>(&mut connection).await else { return };
        if !keys.is_empty() {
            let _ = redis::cmd("UNLINK").arg(&keys).query_async::<()>(&mut connection).await;
        }
        if next == 0 {
            return;
        }
        cursor = next;
    }
}

/// The same address for the account of a kind of process. That of a stranger's server stays as it is.
pub(crate) fn account(url: &str, kind: &str) -> String {
    holdfast::process::role::address_of(kind, url)
}

/// The management API, which can make virtual hosts.
#[derive(Clone)]
pub(crate) struct Management {
    url: Arc<str>,
}

impl Management {
    pub(crate) fn from_environment() -> Self {
        Self { url: server("RABBITMQ_MANAGEMENT_URL").trim_end_matches('/').into() }
    }

    /// Makes a virtual host; answers the AMQP URL for it.
    pub(crate) async fn make_vhost(&self, name: &str) -> String {
        self.call(Method::PUT, &format!("/api/vhosts/{name}"), &json!({})).await;
        let amqp = server("AMQP_URL");
        let user = amqp.split("://").nth(1).and_then(|rest| rest.split(':').next()).expect("a user").to_owned();
        let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        self.call(Method::PUT, &format!("/api/permissions/{name}/{user}"), &everything).await;
        self.permit(name).await;
        let (server, _) = amqp.rsplit_once('/').expect("a virtual host");
        format!("{server}/{name}")
    }

    /// What rabbitmq/permissions.json gives each kind of process, in this virtual host.
    async fn permit(&self, vhost: &str) {
        let mut given: Value =
            serde_json::from_str(include_str!("../../rabbitmq/permissions.json")).expect("permissions");
        for permission in given["permissions"].as_array_mut().expect("a list") {
            permission["vhost"] = vhost.into();
        }
        self.call(Method::POST, "/api/definitions", &given).await;
    }

    /// Other rights of one user in this virtual host.
    pub(crate) async fn permit_user(&self, vhost: &str, user: &str, rights: &Value) {
        self.call(Method::PUT, &format!("/api/permissions/{vhost}/{user}"), rights).await;
    }

    pub(crate) async fn drop_vhost(&self, name: &str) {
        let _ = Client::new().delete(format!("{}/api/vhosts/{name}", self.url)).send().await;
    }

    async fn call(&self, method: Method, path: &str, body: &Value) {
        let client = Client::builder().no_proxy().build().expect("a client");
        let answer = client.request(method, format!("{}{path}", self.url)).json(body).send().await.expect("RabbitMQ");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
}

/// An empty virtual host without a stack, for tests of the broker's side alone.
pub(crate) struct VirtualHost {
    pub amqp_url: String,
    name: String,
    management: Management,
}

impl VirtualHost {
    pub(crate) async fn make() -> Self {
        let (name, management) = (format!("hf_{}", Uuid::now_v7().simple()), Management::from_environment());
        Self { amqp_url: management.make_vhost(&name).await, name, management }
    }

    pub(crate) async fn ready_in(&self, queue: &str) -> u32 {
        ready_in(&self.amqp_url, queue).await
    }

    /// Has the broker cut the connection of this name. It learns of new ones every few seconds.
    pub(crate) async fn cut(&self, connection: &str) {
        until(&format!("{connection} is cut"), async || {
            let all = Client::new().get(format!("{}/api/vhosts/{}/connections", self.management.url, self.name));
            let all = Answer::try_of(all).await.ok()?.body;
            let found = all.as_array()?.iter().find(|one| one["client_properties"]["connection_name"] == connection)?;
            let path = format!(
                "{}/api/connections/{}",
                self.management.url,
                found["name"].as_str()?.replace(' ', "%20").replace('>', "%3E")
            );
            Client::new().delete(path).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }
}

/// Messages ready in a queue, by the broker's own word over AMQP.
pub(crate) async fn ready_in(amqp_url: &str, queue: &str) -> u32 {
    let connection = lapin::Connection::connect(amqp_url, lapin::ConnectionProperties::default()).await;
    let connection = connection.expect("the broker");
    let channel = connection.create_channel().await.expect("a channel");
    let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.into(), options, Default::default()).await.expect("the queue");
    let ready = declared.message_count();
    let _ = connection.close(200, "done".into()).await;
    ready
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        let (name, management) = (self.name.clone(), self.management.clone());
        finally(async move { management.drop_vhost(&name).await });
    }
}

/// Does what a `drop` has to wait for.
pub(crate) fn finally(deed: impl Future<Output = ()> + Send + 'static) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _ = std::thread::spawn(move || runtime().block_on(deed)).join();
}
