//! One connection to the broker that is made again whenever it is needed and gone.
//!
//! lapin can recover connections by itself; then, however, a consumer may stay silent after a channel
//! error. Here a broken channel is thrown away by its user, who asks for a new one: one path, the
//! same for the first connection and the hundredth.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use lapin::{
    Channel, Connection, ConnectionProperties, ConnectionState, ErrorKind,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::AMQPUri,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::tls::Secured;

/// A server that answers nothing for this long is as good as away.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Seconds between heartbeats: a stalled wire is noticed within two of them.
const HEARTBEAT: u16 = 10;
/// Bytes of the largest frame.
const FRAME_MAX: u32 = 131_072;

/// Between two log lines about a broker that stays away.
const REMIND: Duration = Duration::from_secs(60);

/// How often whoever waits on a channel looks whether it still stands.
pub(super) const IDLE_LOOK: Duration = Duration::from_secs(1);

/// A connection that mends itself when asked for a channel.
pub struct Link {
    url: SecretString,
    name: String,
    /// Held while connecting, so that many askers make one connection.
    connecting: tokio::sync::Mutex<()>,
    current: Mutex<Option<Arc<Connection>>>,
    /// When it was last logged that the broker is away; `None` while it is not.
    logged_away: Mutex<Option<Instant>>,
    /// For good: an attempt to connect that the end of the process cut off would panic inside lapin.
    closed: CancellationToken,
}

impl Link {
    pub fn new(url: SecretString, name: String) -> Self {
        Self {
            url,
            name,
            connecting: tokio::sync::Mutex::default(),
            current: Mutex::default(),
            logged_away: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// The account's name, as the URL gives it.
    pub fn account(&self) -> String {
        let parsed = Secured::parse(self.url.expose_secret())
            .ok()
            .and_then(|secured| secured.url.as_str().parse::<AMQPUri>().ok());
        parsed.map_or_else(|| "unknown".into(), |uri| uri.authority.userinfo.username)
    }

    /// A fresh channel, on the standing connection or on a new one.
    ///
    /// # Errors
    /// The broker is away or refuses us. Nothing was changed.
    pub async fn channel(&self) -> Result<Channel, lapin::Error> {
        answered(async {
            loop {
                let connection = self.connection().await?;
                match connection.create_channel().await {
                    Err(error) if is_worn_out(&error) && connection.status().connected() => {
                        self.discard(&connection).await;
                    }
                    opened => break opened,
                }
            }
        })
        .await
    }

    /// A fresh channel, however long the broker is away; none ever, once the connection was closed.
    pub async fn channel_when_possible(&self) -> Channel {
        let mut pause = reconnect_pauses();
        loop {
            match self.channel().await {
                Ok(channel) => return channel,
                Err(_) if self.closed.is_cancelled() => std::future::pending().await,
                Err(error) => {
                    self.log_away(&error);
                    tokio::time::sleep(pause.next().unwrap_or(LONGEST_PAUSE)).await;
                }
            }
        }
    }

    /// Once when the broker goes, and then at a slow pace, however many ask for a channel.
    fn log_away(&self, error: &lapin::Error) {
        let mut logged = self.logged_away.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= REMIND) {
            *logged = Some(Instant::now());
            tracing::warn!(connection = self.name, %error, "the broker is away; connecting again until it is back");
        }
    }

    /// Makes sure that the connection stands.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn touch(&self) -> Result<(), lapin::Error> {
        let channel = self.channel().await?;
        close(&channel).await;
        Ok(())
    }

    /// Whether the connection stands and the broker has not blocked it.
    pub fn is_up(&self) -> bool {
        self.standing().is_some_and(|connection| !connection.status().blocked())
    }

    /// Whether the broker has said that it takes nothing: its alarm for memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.standing().is_some_and(|connection| connection.status().blocked())
    }

    /// Closes the connection politely and for good; what is not acknowledged goes back to its queue.
    pub async fn close(&self) {
        self.closed.cancel();
        // Whoever is just connecting comes to an end first.
        let _alone = self.connecting.lock().await;
        let connection = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            let _ = timeout(ANSWERS_WITHIN, connection.close(200, "bye".into())).await;
        }
    }

    fn standing(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|connection| connection.status().connected()).cloned()
    }

    /// Throws a connection away; what is not acknowledged on it goes back to its queue.
    async fn discard(&self, worn_out: &Arc<Connection>) {
        let is_it = |connection: &mut Arc<Connection>| Arc::ptr_eq(connection, worn_out);
        self.current.lock().unwrap_or_else(PoisonError::into_inner).take_if(is_it);
        let _ = worn_out.close(200, "worn out".into()).await;
    }

    async fn connection(&self) -> Result<Arc<Connection>, lapin::Error> {
        let _alone = self.connecting.lock().await;
        if let Some(connection) = self.standing() {
            return Ok(connection);
        }
        if self.closed.is_cancelled() {
            return Err(ErrorKind::InvalidConnectionState(ConnectionState::Closed).into());
        }
        let connection = Arc::new(connect(self.url.expose_secret(), &self.name).await?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        if self.logged_away.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!(connection = self.name, "connected to the broker again");
        }
        Ok(connection)
    }
}

/// Connects; with TLS where the URL says so. The files that it names are read each time, so that new ones need no
/// restart.
async fn connect(url: &str, name: &str) -> Result<Connection, lapin::Error> {
    let unusable = |problem: String| lapin::Error::from(ErrorKind::AuthProviderError(problem));
    let secured = Secured::parse(url).map_err(|fault| unusable(format!("broker.url {fault}")))?;
    let mut uri: AMQPUri = secured.url.as_str().parse().map_err(unusable)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    // RabbitMQ's own value. When the URL has it, lapin allocates its buffers of 32 frames zeroed, and their pages stay
    // untouched; otherwise it grows them after the handshake and writes every page.
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    let pem =
        |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| unusable("broker.url: cacertfile is no PEM".into()));
    let tls = OwnedTLSConfig {
        cert_chain: secured.ca.map(pem).transpose()?,
        identity: secured.client.map(|client| OwnedIdentity::PKCS8 { pem: client.certificates, key: client.key }),
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect_uri_with_config(uri, properties, tls, lapin::runtime::default_runtime()?).await
}

/// Asks the broker, and waits no longer than it may take: a question that was put to lapin while its connection broke
/// is sometimes answered by nobody.
pub(super) async fn answered<T>(asked: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, lapin::Error> {
    answered_within(ANSWERS_WITHIN, asked).await
}

/// [`answered`], for what takes the broker longer than a word.
pub(super) async fn answered_within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, lapin::Error> {
    let silence = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
    timeout(patience, asked).await.unwrap_or_else(|_| Err(silence().into()))
}

/// Closes a channel politely. One that does not close in peace ends with its connection.
pub(super) async fn close(channel: &Channel) {
    let _ = answered(channel.close(200, "done".into())).await;
}

/// lapin never forgets a channel that the broker closed (for a missing queue, say). In the end no number is left
/// for a new one, or a number that is given out again answers with the error of its former bearer.
fn is_worn_out(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ChannelsLimitReached) || error.is_amqp_soft_error()
}

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// 200 ms, doubling to 2 s, for ever, with jitter so that a fleet does not knock in step.
fn reconnect_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}
