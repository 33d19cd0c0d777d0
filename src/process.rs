//! Boot and stop of every long-running role: settings → logs → metrics → topology → role, and out again.

mod keys;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::ValueEnum as _;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio::{signal::unix, sync::OnceCell, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, ApiParts},
    broker::{Broker, Link, consume, consume::Handler, topology::Topology},
    cache::{Cache, token::SharedToken},
    config::{Settings, needed},
    dead_letters::DeadLetters,
    domain::{message::Queue, money::Fen},
    exit::Failure,
    gather::Kept,
    heartbeat, spans,
    store::{self, Database, Plans, payment::Merchant},
    telemetry, trace,
    wechat::{
        Ambient, account::PayAccount, certificates, exchange::PayClient, official_account::OfficialAccountClient,
    },
    workers::{
        expiry::Expiry,
        notifications::Notifications,
        payments::Payments,
        prepay::Prepay,
        reconcile::{Reconcile, books::Books},
        refunds::Refunds,
        seats::Seats,
    },
};

/// The workers that can be started, by the name that operators use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum WorkerName {
    Seats,
    Prepay,
    Payments,
    Expiry,
    Refunds,
    Notifications,
    Reconcile,
}

/// Of the pool for operators' acts.
const DESK_CONNECTIONS: u32 = 4;

/// What every role has.
struct Process {
    settings: Settings,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    spans: Option<Kept>,
}

impl Process {
    /// `service`: what the process is called in traces.
    fn boot(settings: Settings, service: &str) -> Result<Self, Failure> {
        let failed = |error: anyhow::Error| Failure::wrong(format!("{error:#}"));
        telemetry::start_logs(&settings.log).map_err(failed)?;
        let metrics = telemetry::start_metrics().map_err(failed)?;
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone(), Duration::from_secs(settings.process.grace_seconds)).map_err(failed)?;
        let spans = spans::export(&settings.telemetry, service)
            .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
        Ok(Self { settings, metrics, stop, spans })
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.settings.process.grace_seconds)
    }

    fn broker_url(&self) -> Result<SecretString, Failure> {
        Ok(needed("broker.url", &self.settings.broker.url)?)
    }

    fn database(&self, plans: Plans) -> Result<Database, Failure> {
        let url = needed("database.url", &self.settings.database.url)?;
        Database::open(&url, self.settings.database.max_connections, plans)
            .map_err(|error| Failure::wrong(format!("database.url cannot be read: {error}")))
    }

    /// For the few acts of operators, at a person's pace; the ordinary pool where it is the same address.
    fn desk(&self, ordinary: &Database) -> Result<Database, Failure> {
        if self.settings.database.operators_url.is_none() {
            return Ok(ordinary.clone());
        }
        let (setting, url) = self.settings.database.for_operators()?;
        Database::open(&url, DESK_CONNECTIONS, Plans::Chosen)
            .map_err(|error| Failure::wrong(format!("{setting} cannot be read: {error}")))
    }

    fn cache(&self) -> Result<Cache, Failure> {
        needed("cache.url", &self.settings.cache.url)?;
        Cache::open(&self.settings.cache).map_err(|error| Failure::wrong(format!("cache.url cannot be read: {error}")))
    }

    /// Waits for the broker and refuses to run on one that differs from `rabbitmq/definitions.json`. `mend` first
    /// declares what is missing.
    async fn check_topology(&self, mend: bool) -> Result<(), Failure> {
        let link = Link::new(self.broker_url()?, "topology check".into());
        let topology = Topology::required();
        loop {
            let differences = if mend { topology.apply(&link).await } else { topology.check(&link).await };
            match differences {
                Ok(differences) if differences.is_empty() => break,
                Ok(differences) => {
                    let mut problems: Vec<String> = differences.iter().map(ToString::to_string).collect();
                    problems.push(
                        "the broker is not as rabbitmq/definitions.json says; see `holdfast topology apply`".into(),
                    );
                    return Err(Failure::Wrong(problems));
                }
                Err(away) => tracing::warn!(%away, "waiting for the broker"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
        link.close().await;
        Ok(())
    }
}

/// Runs the ingress until it is told to stop.
pub async fn run_api(settings: Settings) -> Result<(), Failure> {
    let process = Process::boot(settings, "api")?;
    let account = process.pay_account()?;
    let wechat = pay_client(account.clone())?;
    let topology_checked = Arc::new(AtomicBool::new(false));
    let database = process.database(Plans::Chosen)?;
    let parts = ApiParts {
        settings: process.settings.api.clone(),
        auth: process.auth_keys()?,
        order_id_prefix: process.settings.order.id_prefix.clone(),
        second_person: Fen(process.settings.overrides.second_person_fen),
        price: process.settings.order.price()?,
        rules: process.settings.order.session_rules()?,
        broker: Broker::start(&process.broker_url()?, "api", process.settings.broker.confirm_within()),
        personal: process.personal_keys(&database)?,
        desk: process.desk(&database)?,
        database,
        cache: process.cache()?,
        database_clock: Arc::default(),
        account,
        wechat: wechat.clone(),
        metrics: process.metrics.clone(),
        topology_checked: topology_checked.clone(),
        stop: process.stop.clone(),
    };
    let _certificates = tokio::spawn(keep_certificates(wechat));
    let traces = keep_traces(parts.database.clone());
    // Callbacks and orders are taken (or answered 503) from the first moment; only a broker that is there and
    // differs ends the process.
    let check = async {
        process.check_topology(false).await?;
        topology_checked.store(true, Ordering::Relaxed);
        Ok(())
    };
    let ended = tokio::select! {
        served = api::serve::run(parts, process.grace()) => served,
        Err(failure) = check => Err(failure),
    };
    finish([traces, process.spans]).await;
    ended
}

/// Runs these workers in one process until it is told to stop.
pub async fn run_workers(settings: Settings, names: &[WorkerName]) -> Result<(), Failure> {
    let service = match names {
        [name] => name.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        _ => "workers".into(),
    };
    let process = Process::boot(settings, &service)?;
    let database = process.database(Plans::ByKey)?;
    let cache = process.cache()?;
    let broker = Broker::start(&process.broker_url()?, "worker", process.settings.broker.confirm_within());
    // The worker that heals a broker without queues must not be kept from it by their absence.
    process.check_topology(names.contains(&WorkerName::Reconcile)).await?;

    let traces = keep_traces(database.clone());
    let personal = OnceCell::new();
    let personal = async || personal.get_or_try_init(|| process.all_personal_keys(&database)).await.cloned();
    let mut running = JoinSet::new();
    for name in names {
        match name {
            WorkerName::Seats => {
                let seats = Arc::new(Seats {
                    db: database.clone(),
                    cache: cache.clone(),
                    personal: personal().await?,
                    terms: process.settings.order.terms(),
                    alarms: process.settings.order.alarms(),
                });
                for queue in Queue::order_lanes() {
                    spawn(&mut running, &broker, queue, seats.clone(), &process.stop);
                }
            }
            WorkerName::Prepay => {
                let wechat = pay_client(process.pay_account()?)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let prepay = Prepay::new(database.clone(), cache.clone(), wechat, personal().await?);
                spawn(&mut running, &broker, Queue::Prepay, Arc::new(prepay), &process.stop);
            }
            WorkerName::Payments => {
                let account = process.pay_account()?;
                let merchant = Merchant { mchid: account.mchid.clone(), appid: account.appid.clone() };
                let payments = Payments { db: database.clone(), cache: cache.clone(), merchant };
                spawn(&mut running, &broker, Queue::Payments, Arc::new(payments), &process.stop);
            }
            WorkerName::Expiry => {
                let wechat = pay_client(process.pay_account()?)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let order = &process.settings.order;
                let expiry = Expiry {
                    db: database.clone(),
                    cache: cache.clone(),
                    wechat,
                    terms: order.terms(),
                    alarms: order.alarms(),
                };
                spawn(&mut running, &broker, Queue::Expiry, Arc::new(expiry), &process.stop);
            }
            WorkerName::Refunds => {
                let wechat = pay_client(process.pay_account()?)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let order = &process.settings.order;
                let refunds = Refunds {
                    db: database.clone(),
                    cache: cache.clone(),
                    wechat,
                    terms: order.terms(),
                    second_person: Fen(process.settings.overrides.second_person_fen),
                    alarms: order.alarms(),
                    interval: order.refund_interval(),
                };
                spawn(&mut running, &broker, Queue::Refunds, Arc::new(refunds), &process.stop);
            }
            WorkerName::Notifications => {
                let account = OfficialAccountClient::new(process.official_account()?)
                    .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
                let token = SharedToken::new(cache.clone());
                let notifications = Notifications::new(database.clone(), personal().await?, account, token);
                spawn(&mut running, &broker, Queue::Notifications, Arc::new(notifications), &process.stop);
            }
            WorkerName::Reconcile => {
                let pace = process.settings.reconcile.pace(&process.settings.retention, &process.settings.order);
                let reconcile = Reconcile { db: process.database(Plans::Chosen)?, broker: broker.clone(), pace };
                running.spawn(reconcile.run(process.stop.clone()));
                let account = process.pay_account()?;
                let merchant = Merchant { mchid: account.mchid.clone(), appid: account.appid.clone() };
                let (db, broker, personal) = (database.clone(), broker.clone(), personal().await?);
                let wechat = pay_client(account)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let neighbours = process.settings.order.neighbours()?;
                let books = Books { db: database.clone(), publisher: broker.publisher.clone(), wechat, neighbours };
                let ready = process.settings.reconcile.bill_ready();
                running.spawn(books.run(pace.every, ready, process.stop.clone()));
                running.spawn(DeadLetters { db, broker, personal, merchant }.look_after(process.stop.clone()));
            }
        }
    }
    tokio::spawn(heartbeat::beat(broker.pulses.clone(), cache.clone(), process.stop.clone()));
    let health = api::health::serve_alone(
        process.settings.health.listen,
        api::health::Dependencies { database, broker: broker.clone(), cache },
        process.metrics.clone(),
    )
    .await
    .map_err(|error| Failure::wrong(format!("health.listen cannot be used: {error}")))?;
    tracing::info!(workers = ?names, health = %health, "working");
    while let Some(ended) = running.join_next().await {
        // One that consumes no more must not look alive: the whole process ends, to be started again.
        ended.map_err(|panic| Failure::Away(format!("a consumer ended: {panic}")))?;
    }
    finish([traces, process.spans]).await;
    broker.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn spawn<H: Handler>(
    running: &mut JoinSet<()>,
    broker: &Broker,
    queue: Queue,
    handler: Arc<H>,
    stop: &CancellationToken,
) {
    running.spawn(consume::run(broker.clone(), queue, handler, stop.clone()));
}

/// Writes the trace of orders for as long as the process lives.
fn keep_traces(database: Database) -> Option<Kept> {
    trace::LINE.keep(move |set| {
        let database = database.clone();
        async move { store::trace::write(&database, &set).await.is_ok() }
    })
}

/// Nothing more will be noted: what waits is written.
async fn finish(notes: impl IntoIterator<Item = Option<Kept>>) {
    for kept in notes.into_iter().flatten() {
        kept.finish().await;
    }
}

fn pay_client(account: Arc<PayAccount>) -> Result<Arc<PayClient>, Failure> {
    PayClient::new(account, Ambient::system())
        .map(Arc::new)
        .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))
}

/// Keeps WeChat's platform certificates fresh; at once done when they are switched off.
async fn keep_certificates(wechat: Arc<PayClient>) {
    while wechat.account().platform_certificates {
        let pause = match wechat.refresh_certificates().await {
            Ok(_) => certificates::REFRESH_EVERY.unsigned_abs(),
            Err(error) => {
                tracing::warn!(%error, "WeChat's platform certificates could not be refreshed");
                Duration::from_secs(60)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The first SIGTERM or SIGINT asks for an orderly end; a second one, or the end of the grace, is the end.
fn stop_on_signals(stop: CancellationToken, grace: Duration) -> anyhow::Result<()> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!(?grace, "stopping: finishing what is in hand");
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(grace) => {}
        }
        tracing::warn!("stopped before everything was finished; unfinished messages will be delivered again");
        std::process::exit(0);
    });
    Ok(())
}
