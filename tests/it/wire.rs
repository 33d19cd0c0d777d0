//! A wire that can be broken: a TCP proxy before one server, for whatever a network does to connections.
//!
//! The servers themselves stay whole, so every test can break its own wires on the shared ones, all side by side.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::stack::{Stack, free_port};

/// What is wrong with a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Every connection is reset, once. New ones pass.
    Cut,
    /// Every connection is reset, and nobody listens.
    Refused,
    /// Connections stand, new ones are accepted, and nothing passes. All of it goes on afterwards.
    Stalled,
    /// Connections that stand are never heard of again, by either side, and no reset tells. New ones pass.
    Forgotten,
    /// Everything comes late and little by little.
    Slow { bytes_per_second: usize, latency: Duration },
    /// Each connection is reset after some bytes more, wherever in a frame that is.
    MidFrame,
    /// What is sent arrives and is done; the answer never comes, its connection is reset.
    AnswersLost,
}

impl Break {
    /// Whether it strikes what there is, and is over.
    pub(crate) fn is_momentary(self) -> bool {
        matches!(self, Self::Cut | Self::Forgotten)
    }
}

pub(crate) const SLOW: Break = Break::Slow { bytes_per_second: 20_000, latency: Duration::from_millis(150) };

/// Every kind there is.
pub(crate) const BREAKS: [Break; 7] =
    [Break::Cut, Break::Refused, Break::Stalled, Break::Forgotten, SLOW, Break::MidFrame, Break::AnswersLost];

/// A forgotten connection is closed towards the server, whose keepalives would have told it by then …
const SERVER_NOTICES: Duration = Duration::from_secs(20);
/// … and towards the client only when nobody may need it any more to notice by itself.
const CLIENT_NOTICES: Duration = Duration::from_secs(180);

#[derive(Clone, Copy)]
struct Weather {
    now: Option<Break>,
    /// How often connections were cut, and how often forgotten. A connection knows the numbers it was born under.
    cuts: u32,
    lapses: u32,
}

pub(crate) struct Wire {
    port: u16,
    weather: watch::Sender<Weather>,
    carrying: JoinHandle<()>,
}

impl Wire {
    /// A whole wire to the server at this `host:port`; to whichever of several answers, each connection to the next
    /// one, as a load balancer would.
    pub(crate) async fn to(servers: &str) -> Self {
        let servers: Vec<String> = servers.split(' ').map(ToOwned::to_owned).collect();
        let port = free_port().await;
        let (weather, seen) = watch::channel(Weather { now: None, cuts: 0, lapses: 0 });
        let carrying = tokio::spawn(carry_all(port, servers.into(), seen));
        Self { port, weather, carrying }
    }

    /// The same URL, over this wire.
    pub(crate) fn over(&self, url: &str) -> String {
        let (before, after, _) = place_of_address(url);
        format!("{before}127.0.0.1:{}{after}", self.port)
    }

    pub(crate) fn becomes(&self, now: Break) {
        self.weather.send_modify(|weather| {
            weather.now = Some(now).filter(|now| !now.is_momentary());
            weather.cuts += u32::from(matches!(now, Break::Cut | Break::Refused));
            weather.lapses += u32::from(now == Break::Forgotten);
        });
    }

    pub(crate) fn is_mended(&self) {
        self.weather.send_modify(|weather| weather.now = None);
    }

    /// Broken for so long, then whole again.
    pub(crate) async fn broken(&self, how: Break, time: Duration) {
        self.becomes(how);
        sleep(time).await;
        self.is_mended();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// What stands before and after `host:port` in a URL, and that itself.
pub(crate) fn place_of_address(url: &str) -> (&str, &str, &str) {
    let scheme = url.find("://").expect("a URL") + 3;
    let end = url[scheme..].find('/').map_or(url.len(), |at| scheme + at);
    let begin = url[scheme..end].rfind('@').map_or(scheme, |at| scheme + at + 1);
    (&url[..begin], &url[end..], &url[begin..end])
}

/// Wires from the processes of a stack to all they depend on.
pub(crate) struct Wires {
    pub postgresql: Wire,
    pub rabbitmq: Wire,
    pub redis: Wire,
    pub wechat: Wire,
}

impl Wires {
    /// Puts wires under a stack: the processes started from now on use them. The test itself does not.
    pub(crate) async fn under(stack: &mut Stack) -> Self {
        Self {
            postgresql: lay(stack, &["DATABASE_URL"]).await,
            rabbitmq: lay(stack, &["AMQP_URL"]).await,
            redis: lay(stack, &["REDIS_URL"]).await,
            wechat: lay(stack, &["HOLDFAST_WECHAT_PAY__BASE_URL", "HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL"]).await,
        }
    }

    pub(crate) fn named(&self) -> [(&'static str, &Wire); 4] {
        [
            ("postgresql", &self.postgresql),
            ("rabbitmq", &self.rabbitmq),
            ("redis", &self.redis),
            ("wechat", &self.wechat),
        ]
    }
}

async fn lay(stack: &mut Stack, settings: &[&str]) -> Wire {
    let address = place_of_address(&stack.environment[settings[0]]).2;
    // A cluster has several.
    let nodes = std::env::var("RABBITMQ_NODES").ok().filter(|_| settings[0] == "AMQP_URL");
    let wire = Wire::to(nodes.as_deref().unwrap_or(address)).await;
    for setting in settings {
        let url = stack.environment.get_mut(*setting).expect("an address");
        *url = wire.over(url);
    }
    wire
}

async fn carry_all(port: u16, servers: Arc<[String]>, mut weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        until(&mut weather, |weather| weather.now != Some(Break::Refused)).await;
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else {
            // Somebody's outgoing connection has the number for a moment.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let refused = until(&mut weather, |weather| weather.now == Some(Break::Refused));
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = refused => break,
            };
            while connections.try_join_next().is_some() {}
            if let Ok((client, _)) = accepted {
                number += 1;
                let mut seen = weather.clone();
                seen.mark_unchanged();
                connections.spawn(carry(client, servers.clone(), seen, number));
            }
        }
    }
}

/// Waits for a condition of the weather; for ever, when the wire is gone.
async fn until(weather: &mut watch::Receiver<Weather>, fits: impl FnMut(&Weather) -> bool) {
    if weather.wait_for(fits).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Why a connection ends.
enum End {
    /// One side closed it.
    Closed,
    /// The wire broke it.
    Reset,
}

async fn carry(mut client: TcpStream, servers: Arc<[String]>, mut weather: watch::Receiver<Weather>, number: i64) {
    let born = *weather.borrow();
    until(&mut weather, |weather| weather.now != Some(Break::Stalled)).await;
    let Some(mut server) = connect(&servers, number).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut cut, mut forgotten) = (weather.clone(), weather.clone());
    let end = tokio::select! {
        end = pass(&mut client, &mut server, &weather, number) => end,
        () = until(&mut cut, |now| now.cuts != born.cuts) => End::Reset,
        () = until(&mut forgotten, |now| now.lapses != born.lapses) => {
            // Nobody reads or writes it, and nobody is told.
            sleep(SERVER_NOTICES).await;
            drop(server);
            sleep(CLIENT_NOTICES).await;
            return;
        }
    };
    if matches!(end, End::Reset) {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn connect(servers: &[String], number: i64) -> Option<TcpStream> {
    let first = usize::try_from(number).unwrap_or(0);
    for turn in 0..servers.len() {
        if let Ok(server) = TcpStream::connect(&servers[(first + turn) % servers.len()]).await {
            return Some(server);
        }
    }
    None
}

async fn pass(client: &mut TcpStream, server: &mut TcpStream, weather: &watch::Receiver<Weather>, number: i64) -> End {
    // Within a handshake's first bytes or some pages later: another place for each connection.
    let left = AtomicI64::new(40 + number * 7_919 % 3_000);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        end = pump(&mut from_client, &mut to_server, false, weather.clone(), &left) => end,
        end = pump(&mut from_server, &mut to_client, true, weather.clone(), &left) => end,
    }
}

async fn pump(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    is_answer: bool,
    mut weather: watch::Receiver<Weather>,
    left: &AtomicI64,
) -> End {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut chunk).await else {
            return End::Closed;
        };
        until(&mut weather, |weather| weather.now != Some(Break::Stalled)).await;
        let now = weather.borrow().now;
        let bytes = &chunk[..read];
        let passed = match now {
            Some(Break::AnswersLost) if is_answer => return End::Reset,
            Some(Break::MidFrame) => {
                let some = usize::try_from(left.fetch_sub(read as i64, Ordering::Relaxed)).unwrap_or(0);
                if some < read {
                    let _ = to.write_all(&bytes[..some]).await;
                    return End::Reset;
                }
                to.write_all(bytes).await
            }
            Some(Break::Slow { bytes_per_second, latency }) => trickle(to, bytes, bytes_per_second, latency).await,
            _ => to.write_all(bytes).await,
        };
        if passed.is_err() {
            return End::Closed;
        }
    }
}

async fn trickle(to: &mut WriteHalf<'_>, bytes: &[u8], per_second: usize, latency: Duration) -> io::Result<()> {
    sleep(latency).await;
    for piece in bytes.chunks((per_second / 20).max(1)) {
        to.write_all(piece).await?;
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
