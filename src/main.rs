//! One executable for every role: from arguments to role.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use holdfast::{
    config,
    domain::text::escaped_page,
    exit::Failure,
    ops,
    process::{self, WorkerName},
};

/// Seats booked, paid with WeChat Pay, on a queue.
#[derive(Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON document to standard output.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The ingress API and the booking page.
    Api,
    /// One or more workers; `all` for every one.
    Worker {
        #[arg(required = true, value_parser = worker_names)]
        names: Vec<Vec<WorkerName>>,
    },
    /// Bring the schema to head.
    Migrate,
    /// Compare the broker with rabbitmq/definitions.json, or declare what is missing.
    #[command(subcommand)]
    Topology(ops::topology::Command),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ops::config::Command),
    /// Mint a token with the configured key (HS256 only).
    Token(ops::token::Arguments),
    /// Courses' sessions.
    #[command(subcommand)]
    Schedule(ops::schedule::Command),
    /// One order.
    #[command(subcommand)]
    Order(ops::order::Command),
    /// Messages that nobody could handle: look, replay, discard.
    #[command(subcommand)]
    Dead(Box<ops::dead::Command>),
    /// Money and facts that need a person.
    #[command(subcommand)]
    Case(ops::case::Command),
    /// Keys: which there are, and sealing personal data with a new one.
    #[command(subcommand)]
    Keys(ops::keys::Command),
    /// The audit log.
    #[command(subcommand)]
    Audit(ops::audit::Command),
    /// Check every invariant of the books; exit 1 if one is broken.
    Verify(ops::verify::Arguments),
    /// Compare our books of one China day with WeChat's bill; exit 1 if something needs a person.
    Reconcile(ops::reconcile::Arguments),
    /// The addresses of a role's own accounts, made from the owner's in the environment.
    #[command(hide = true)]
    Accounts(ops::accounts::Arguments),
    /// Drive one sample booking through a running stack and its simulator, and tell its story.
    Sample(ops::sample::Arguments),
}

fn worker_names(text: &str) -> Result<Vec<WorkerName>, String> {
    if text == "all" {
        return Ok(WorkerName::value_variants().to_vec());
    }
    <WorkerName as ValueEnum>::from_str(text, false).map(|name| vec![name]).map_err(|_| {
        let known = WorkerName::value_variants().iter().filter_map(|name| name.to_possible_value());
        let known: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
        format!("no worker has this name; there are {} and all", known.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One TLS library for everything; a second installation cannot happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("holdfast: the runtime cannot start: {error}");
            return ExitCode::from(3);
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("holdfast: {}", escaped_page(&failure.to_string()));
            failure.code()
        }
    }
}

async fn run(Arguments { command, json }: Arguments) -> Result<(), Failure> {
    if let Command::Accounts(arguments) = &command {
        return ops::accounts::run(arguments, json);
    }
    let loaded = config::load(std::env::vars());
    if let Command::Config(command) = command {
        return ops::config::run(&command, loaded, json);
    }
    let settings = loaded.settings?;
    match command {
        Command::Api => process::run_api(settings).await,
        Command::Worker { names } => {
            let mut names = names.concat();
            names.sort_unstable();
            names.dedup();
            process::run_workers(settings, &names).await
        }
        Command::Migrate => ops::migrate::run(&settings, json).await,
        Command::Topology(command) => ops::topology::run(&command, &settings, json).await,
        Command::Token(arguments) => ops::token::run(&arguments, &settings, json),
        Command::Schedule(command) => ops::schedule::run(command, &settings, json).await,
        Command::Order(command) => ops::order::run(&command, &settings, json).await,
        Command::Dead(command) => ops::dead::run(*command, &settings, json).await,
        Command::Case(command) => ops::case::run(&command, &settings, json).await,
        Command::Keys(command) => ops::keys::run(&command, &settings, json).await,
        Command::Audit(command) => ops::audit::run(&command, &settings, json).await,
        Command::Verify(arguments) => ops::verify::run(&arguments, &settings, json).await,
        Command::Reconcile(arguments) => ops::reconcile::run(&arguments, &settings, json).await,
        Command::Sample(arguments) => ops::sample::run(&arguments, &settings, json).await,
        Command::Config(_) | Command::Accounts(_) => Ok(()),
    }
}
