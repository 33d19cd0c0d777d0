//! `wechat-sim`: makes keys, or plays WeChat until it is told to stop.

use std::{
    env::VarError,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;
use wechat_sim::{KeyMode, Keys, Settings};

/// Plays WeChat Pay v3 and the Official Account for tests and development.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the keys of a merchant and of WeChat Pay; an existing set is kept
    Keygen {
        /// Directory of the key files
        #[arg(long)]
        out: PathBuf,
    },
    /// Answer requests and send callbacks until SIGTERM or Ctrl-C
    Serve(Box<Serve>),
}

#[derive(clap::Args)]
struct Serve {
    /// Directory of the key files; a set is made when there is none
    #[arg(long)]
    keys: PathBuf,
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where people reach it, when that is not the listening address
    #[arg(long)]
    public_url: Option<String>,
    #[arg(long, default_value_t = Settings::default().appid)]
    appid: String,
    #[arg(long, default_value_t = Settings::default().mchid)]
    mchid: String,
    /// File with the Official Account's secret; else the environment variable WECHAT_SIM_OFFICIAL_ACCOUNT_SECRET, else a
    /// fixed one. Not an argument: every user of the machine can list those
    #[arg(long)]
    official_account_secret_file: Option<PathBuf>,
    /// A known template id; repeatable; without any, every id is known
    #[arg(long = "template-id")]
    templates: Vec<String>,
    /// How much faster than in life callbacks are resent and refunds settle
    #[arg(long, default_value_t = 1.0)]
    callback_speed: f64,
    /// Silence after which a connection is closed, in seconds
    #[arg(long, default_value_t = Settings::default().idle_close.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    idle_close_seconds: u64,
    /// Hour of the day after, in China, from which a day's bill can be had
    #[arg(long, default_value_t = Settings::default().bill_hour, value_parser = clap::value_parser!(u8).range(..24))]
    bill_hour: u8,
    /// Which of WeChat's keys sign
    #[arg(long, value_enum, default_value_t = Mode::PublicKey)]
    key_mode: Mode,
    /// Where refunds without a notify_url are announced
    #[arg(long)]
    refund_notify_url: Option<String>,
    /// Journal of the books, read again at the next start
    #[arg(long)]
    state: Option<PathBuf>,
    /// Seed of every code, number and chance; a script may name another for its chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Mode {
    PublicKey,
    Certificate,
    Both,
}

impl From<Mode> for KeyMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::PublicKey => Self::PublicKey,
            Mode::Certificate => Self::Certificate,
            Mode::Both => Self::Both,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Arguments::parse().command {
        Command::Keygen { out } => {
            let keys = Keys::load_or_generate(&out)?;
            println!("{}: merchant {}, {}", out.display(), keys.merchant_serial_no, keys.public_key_id);
            Ok(())
        }
        Command::Serve(serve) => run(*serve).await,
    }
}

const SECRET: &str = "WECHAT_SIM_OFFICIAL_ACCOUNT_SECRET";

/// The Official Account's secret, from the first source that has one.
fn official_account_secret(file: Option<&Path>) -> Result<String> {
    let secret = match (file, std::env::var(SECRET)) {
        (Some(file), _) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        (None, Ok(secret)) => secret,
        (None, Err(VarError::NotPresent)) => Settings::default().official_account_secret,
        (None, Err(VarError::NotUnicode(_))) => bail!("{SECRET} is not UTF-8"),
    };
    let secret = secret.trim();
    ensure!(!secret.is_empty(), "the Official Account's secret is empty");
    Ok(secret.to_owned())
}

async fn run(serve: Serve) -> Result<()> {
    let official_account_secret = official_account_secret(serve.official_account_secret_file.as_deref())?;
    let keys = Keys::load_or_generate(&serve.keys)?;
    let listener =
        TcpListener::bind(serve.listen).await.with_context(|| format!("cannot listen on {}", serve.listen))?;
    let settings = Settings {
        appid: serve.appid,
        mchid: serve.mchid,
        official_account_secret,
        templates: serve.templates,
        callback_speed: serve.callback_speed,
        idle_close: Duration::from_secs(serve.idle_close_seconds),
        bill_hour: serve.bill_hour,
        key_mode: serve.key_mode.into(),
        seed: serve.seed,
        public_url: serve.public_url,
        refund_notify_url: serve.refund_notify_url,
        state: serve.state,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut running = wechat_sim::start(settings, keys, listener)?;
    println!("wechat-sim listens on {}", running.url);
    tokio::select! {
        () = running.finished() => {}
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
