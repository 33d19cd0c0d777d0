//! Boot and stop of every long-running role: settings → logs → metrics → topology → role, and out again.

mod keys;
pub mod role;
pub mod secrets;

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

use role::Role;

use crate::{
    api::{self, ApiParts},
    broker::{
        Broker, Link, consume,
        consume::Handler,
        topology::{Difference, Topology, Uses},
    },
    cache::{Cache, token::SharedToken},
    config::{PayUse, Settings, needed},
    dead_letters::DeadLetters,
    domain::money::Fen,
    exit::Failure,
    gather::Kept,
    heartbeat, spans,
    store::{self, Database, Plans, StoreError, payment::Merchant, rights},
    telemetry, trace,
    wechat::{
        Ambient,
        account::{Numbers, PayAccount},
        certificates,
        exchange::PayClient,
        official_account::OfficialAccountClient,
    },
    workers::{
        expiry::Expiry,
        notifications::Notifications,
        payments::Payments,
        prepay::Prepay,
        reconcile::{Reconcile, books::Books, cancellations::Cancellations},
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
        let open_to_all = settings.development_problems();
        if !open_to_all.is_empty() {
            return Err(Failure::Wrong(open_to_all.iter().map(ToString::to_string).collect()));
        }
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

    /// Waits for the broker and refuses to run on one where these roles cannot do their work. What must be there and is
    /// missing is declared first where one of them does that.
    async fn check_broker(&self, roles: &[Role]) -> Result<(), Failure> {
        let link = Link::new(self.broker_url()?, "start check".into());
        let uses = roles.iter().map(|role| role.uses()).fold(Uses::default(), Uses::and);
        let look = async || {
            if uses.declares {
                // The worker that heals a broker without queues must not be kept from it by their absence.
                let differences = Topology::required().apply(&link).await?;
                if !differences.is_empty() {
                    return Ok(differences);
                }
            }
            Topology::check(&uses, &link).await
        };
        loop {
            match look().await {
                Ok(differences) if differences.is_empty() => break,
                Ok(differences) => return Err(unfit(roles, &differences)),
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

/// Role, the setting that names the account, its kind and its connections: what is compared with `store/rights.sql`.
type Checked = (Role, &'static str, &'static str, Database);

/// Looks a few times, as a migration that is under way gives new tables their rights last.
const RIGHTS_LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Refuses to run under accounts that lack a right in the database.
///
/// # Errors
/// Of the result: PostgreSQL is away, so nothing is known. Of its value: what is lacking, all at once.
async fn check_rights(accounts: &[Checked]) -> Result<Result<(), Failure>, StoreError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let mut problems = Vec::new();
        for (role, setting, kind, database) in accounts {
            let lacking = rights::missing(database, kind).await?;
            problems.extend(lacking.iter().map(|right| format!("{}: {right} ({setting})", role.name())));
        }
        if problems.is_empty() {
            return Ok(Ok(()));
        }
        if looks == RIGHTS_LOOKS {
            problems.push("`holdfast migrate`, run as the owner, gives each account its rights".into());
            return Ok(Err(Failure::Wrong(problems)));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The same, however long PostgreSQL is away.
async fn check_rights_when_possible(accounts: &[Checked]) -> Result<(), Failure> {
    loop {
        match check_rights(accounts).await {
            Ok(known) => return known,
            Err(error) => tracing::warn!(%error, "rights are not known yet"),
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Why these roles cannot work at this broker.
fn unfit(roles: &[Role], differences: &[Difference]) -> Failure {
    let who = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
    let mut problems: Vec<String> = differences.iter().map(|difference| format!("{who}: {difference}")).collect();
    if differences.iter().any(|difference| !matches!(difference, Difference::NoRight { .. })) {
        problems.push("the broker is not as rabbitmq/definitions.json says; see `holdfast topology apply`".into());
    }
    Failure::Wrong(problems)
}

/// Runs the ingress until it is told to stop.
pub async fn run_api(settings: Settings) -> Result<(), Failure> {
    let process = Process::boot(settings, "api")?;
    let account = process.pay_account(PayUse::CallsAndCallbacks)?;
    let wechat = pay_client(account.clone())?;
    let topology_checked = Arc::new(AtomicBool::new(false));
    let database = process.database(Plans::Chosen)?;
    let parts = ApiParts {
        settings: process.settings.api.clone(),
        auth: process.tokens()?,
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
        health: process.settings.health.listen,
        topology_checked: topology_checked.clone(),
        stop: process.stop.clone(),
    };
    let _certificates = tokio::spawn(keep_certificates(wechat));
    let traces = keep_traces(parts.database.clone());
    // Callbacks and orders are taken (or answered 503) from the first moment; only a server that is there and does not
    // let it work ends the process.
    let (ordinary, desk) = (parts.database.clone(), parts.desk.clone());
    let operators = process.settings.database.for_operators()?.0;
    let check = async {
        let broker = async {
            process.check_broker(&[Role::Api]).await?;
            topology_checked.store(true, Ordering::Relaxed);
            Ok(())
        };
        let accounts = [(Role::Api, "database.url", role::INGRESS, ordinary), (Role::Api, operators, role::DESK, desk)];
        tokio::try_join!(broker, check_rights_when_possible(&accounts)).map(drop)
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
    let roles: Vec<Role> = names.iter().copied().map(Role::Worker).collect();
    process.check_broker(&roles).await?;
    let accounts: Vec<Checked> =
        roles.iter().map(|role| (*role, "database.url", role.name(), database.clone())).collect();
    // PostgreSQL may be away at a start; then its rights are looked at as soon as it is back.
    let rights_known = match check_rights(&accounts).await {
        Ok(known) => known.map(|()| true)?,
        Err(error) => {
            tracing::warn!(%error, "rights are not known yet");
            false
        }
    };
    let rights_later = async {
        if rights_known {
            std::future::pending::<()>().await;
        }
        match check_rights_when_possible(&accounts).await {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure,
        }
    };
    tokio::pin!(rights_later);

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
                spawn(&mut running, &broker, *name, seats, &process.stop);
            }
            WorkerName::Prepay => {
                let wechat = pay_client(process.pay_account(PayUse::Calls)?)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let prepay = Prepay::new(database.clone(), cache.clone(), wechat, personal().await?);
                spawn(&mut running, &broker, *name, Arc::new(prepay), &process.stop);
            }
            WorkerName::Payments => {
                // This worker only compares merchant and app numbers and makes no calls, so it loads no key.
                let Numbers { mchid, appid } = process.settings.wechat_pay.numbers()?;
                let merchant = Merchant { mchid, appid };
                let payments = Payments { db: database.clone(), cache: cache.clone(), merchant };
                spawn(&mut running, &broker, *name, Arc::new(payments), &process.stop);
            }
            WorkerName::Expiry => {
                let wechat = pay_client(process.pay_account(PayUse::Calls)?)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let order = &process.settings.order;
                let expiry = Expiry {
                    db: database.clone(),
                    cache: cache.clone(),
                    wechat,
                    terms: order.terms(),
                    alarms: order.alarms(),
                };
                spawn(&mut running, &broker, *name, Arc::new(expiry), &process.stop);
            }
            WorkerName::Refunds => {
                let wechat = pay_client(process.pay_account(PayUse::Calls)?)?;
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
                spawn(&mut running, &broker, *name, Arc::new(refunds), &process.stop);
            }
            WorkerName::Notifications => {
                let account = OfficialAccountClient::new(process.official_account()?)
                    .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
                let token = SharedToken::new(cache.clone());
                let notifications = Notifications::new(database.clone(), personal().await?, account, token);
                spawn(&mut running, &broker, *name, Arc::new(notifications), &process.stop);
            }
            WorkerName::Reconcile => {
                let pace = process.settings.reconcile.pace(&process.settings.retention, &process.settings.order);
                let reconcile = Reconcile { db: process.database(Plans::Chosen)?, broker: broker.clone(), pace };
                running.spawn(endless(reconcile.run(process.stop.clone())));
                let cancellations = Cancellations { db: database.clone(), publisher: broker.publisher.clone() };
                running.spawn(endless(cancellations.run(process.stop.clone())));
                let account = process.pay_account(PayUse::Calls)?;
                let merchant = Merchant { mchid: account.mchid.clone(), appid: account.appid.clone() };
                let (db, broker, personal) = (database.clone(), broker.clone(), personal().await?);
                let wechat = pay_client(account)?;
                tokio::spawn(keep_certificates(wechat.clone()));
                let neighbours = process.settings.order.neighbours()?;
                let books = Books { db: database.clone(), publisher: broker.publisher.clone(), wechat, neighbours };
                let ready = process.settings.reconcile.bill_ready();
                running.spawn(endless(books.run(pace.every, ready, process.stop.clone())));
                running.spawn(endless(DeadLetters { db, broker, personal, merchant }.look_after(process.stop.clone())));
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
    loop {
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            failure = &mut rights_later => return Err(failure),
        };
        let Some(ended) = ended else { break };
        // One that consumes no more must not look alive: the whole process ends, to be started again.
        ended.map_err(|panic| Failure::Away(format!("a consumer ended: {panic}")))??;
    }
    finish([traces, process.spans]).await;
    broker.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// One consumer for each queue that the worker takes from.
fn spawn<H: Handler>(
    running: &mut JoinSet<Result<(), Failure>>,
    broker: &Broker,
    worker: WorkerName,
    handler: Arc<H>,
    stop: &CancellationToken,
) {
    for queue in worker.takes_from() {
        let consumer = consume::run(broker.clone(), queue, handler.clone(), stop.clone());
        running
            .spawn(async move { consumer.await.map_err(|difference| unfit(&[Role::Worker(worker)], &[difference])) });
    }
}

/// What goes on until the process stops.
async fn endless(work: impl Future<Output = ()>) -> Result<(), Failure> {
    work.await;
    Ok(())
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
