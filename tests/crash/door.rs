//! The address under which customers and WeChat reach the API: a TCP proxy that leads to one of two processes.
//!
//! When it is turned to the other process, clients lose their connections and repeat what got no answer, while the
//! connections to the former process stay open: it finishes its requests, and nobody reads the answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) struct Door {
    /// The port of the process that it leads to.
    to: watch::Sender<u16>,
    requests: Arc<Mutex<Requests>>,
    carrying: JoinHandle<()>,
}

/// Requests by their first line.
#[derive(Default)]
struct Requests {
    /// Those without an answer, by the number of their connection.
    in_flight: BTreeMap<u64, String>,
    /// Those that were in flight when the door was turned, and have no answer from the other process yet.
    interrupted: Vec<String>,
}

impl Door {
    /// Listens on `port` of this machine.
    pub(crate) async fn at(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let (to, seen) = watch::channel(to);
        let requests = Arc::<Mutex<Requests>>::default();
        let carrying = tokio::spawn(carry_all(listener, seen, requests.clone()));
        Self { to, requests, carrying }
    }

    /// Leads to another process from now on.
    pub(crate) fn turn_to(&self, port: u16) {
        let mut requests = lock(&self.requests);
        requests.interrupted = requests.in_flight.values().cloned().collect();
        self.to.send_replace(port);
    }

    /// Whether each request that was interrupted has been answered by the other process.
    pub(crate) fn all_were_repeated(&self) -> bool {
        lock(&self.requests).interrupted.is_empty()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

fn lock(requests: &Mutex<Requests>) -> MutexGuard<'_, Requests> {
    requests.lock().expect("no connection panics")
}

async fn carry_all(listener: TcpListener, to: watch::Receiver<u16>, requests: Arc<Mutex<Requests>>) {
    for number in 0.. {
        if let Ok((client, _)) = listener.accept().await {
            let (to, requests) = (to.clone(), requests.clone());
            tokio::spawn(async move {
                carry(client, to, &requests, number).await;
                lock(&requests).in_flight.remove(&number);
            });
        }
    }
}

async fn carry(mut client: TcpStream, mut to: watch::Receiver<u16>, requests: &Mutex<Requests>, number: u64) {
    let port = *to.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if let Some(line) = first_line(&asked[..read]) {
                    lock(requests).in_flight.insert(number, line);
                }
                if server.write_all(&asked[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                note_answer(&mut lock(requests), number, &answered[..read]);
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
            turned = to.changed() => {
                let _ = client.set_zero_linger();
                drop(client);
                if turned.is_ok() {
                    lock(requests).in_flight.remove(&number);
                    let _ = copy(&mut server, &mut sink()).await;
                }
                return;
            }
        }
    }
}

/// The first line of a request, where these bytes begin one.
fn first_line(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    line.ends_with(b" HTTP/1.1").then(|| String::from_utf8_lossy(line).into_owned())
}

fn note_answer(requests: &mut Requests, number: u64, bytes: &[u8]) {
    // "Later" is no answer: the client asks again.
    if bytes.starts_with(b"HTTP/1.1 ")
        && let Some(line) = requests.in_flight.remove(&number)
        && !bytes[9..].starts_with(b"5")
    {
        requests.interrupted.retain(|interrupted| *interrupted != line);
    }
}
