//! Listening: connections with limits of their own, and an end that lets everybody finish.

use std::{sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    ApiParts, ApiSettings, Inner,
    addresses::{Crowd, Peer},
    heads::{Misread, StrictHeads},
    health, names,
    schedules::keep_catalogue,
    tls::Tls,
};
use crate::exit::Failure;

const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEAD_FIELDS_MAX: usize = 64;
const STREAMS_MAX: u32 = 256;
/// After an accept that failed, most likely for want of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// The ingress, from opening its port to the last answer.
///
/// # Errors
/// The port cannot be used, or a setting is wrong.
pub async fn run(parts: ApiParts, drain: Duration) -> Result<(), Failure> {
    names::describe_metrics();
    let listen = parts.settings.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::wrong(format!("api.listen {listen} cannot be used: {error}")))?;
    let health_listen = parts.health;
    let stop = parts.stop.clone();
    let catalogue =
        keep_catalogue(parts.database.clone(), parts.cache.clone(), Arc::clone(&parts.database_clock), stop.clone());
    let broker = parts.broker.clone();
    let tls = parts.settings.tls()?;
    let door = Door::new(&parts.settings);
    let api = Arc::new(Inner::new(parts));
    let health = health::serve_at(health_listen, health::of_api(&api))
        .await
        .map_err(|error| Failure::wrong(format!("health.listen {health_listen} cannot be used: {error}")))?;
    let router = super::routes(api);
    if let Some(tls) = tls.clone() {
        tokio::spawn(tls.follow_files());
    }
    tokio::spawn(catalogue);
    tracing::info!(%listen, tls = tls.is_some(), health = %health, "answering");
    serve(listener, tls, router, door, stop, drain).await;
    broker.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Who is let in, and for how long they may say nothing.
struct Door {
    head_limit: Duration,
    places: Arc<Semaphore>,
    crowd: Arc<Crowd>,
}

impl Door {
    fn new(settings: &ApiSettings) -> Self {
        Self {
            head_limit: Duration::from_secs(settings.head_timeout_seconds),
            places: Arc::new(Semaphore::new(settings.connections_max)),
            crowd: Crowd::new(settings),
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_limit)
            .max_headers(HEAD_FIELDS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("a few kilobytes"))
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(Some(self.head_limit));
        builder
    }
}

/// Serves until `stop`, then takes no more connections and gives those there are `drain` to finish.
async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    door: Door,
    stop: CancellationToken,
    drain: Duration,
) {
    let builder = door.builder();
    let connections = GracefulShutdown::new();
    loop {
        let next = stop.run_until_cancelled(async {
            let place = Arc::clone(&door.places).acquire_owned().await;
            (listener.accept().await, place)
        });
        let (stream, peer, place) = match next.await {
            None => break,
            Some((Ok((stream, peer)), place)) => (stream, peer.ip(), place),
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Some(crowd_place) = door.crowd.enter(peer) else {
            tracing::debug!(%peer, "this address holds too many connections");
            continue;
        };
        // Small answers are not held back to be sent together.
        let _ = stream.set_nodelay(true);
        let (router, builder, tls) = (router.clone(), builder.clone(), tls.clone());
        let watcher = connections.watcher();
        let head_limit = door.head_limit;
        tokio::spawn(async move {
            let _places = (place, crowd_place);
            // The builder counts from the first byte on; whoever sends none, or half a preface, would stay for ever.
            let begun = CancellationToken::new();
            let first = begun.clone();
            let misread = Misread::default();
            let seen = misread.clone();
            let service = TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
                first.cancel();
                request.extensions_mut().insert(Peer(peer));
                request.extensions_mut().insert(seen.clone());
                request
            }));
            let connection = async {
                match tls {
                    None => {
                        watcher
                            .watch(
                                builder
                                    .serve_connection(TokioIo::new(StrictHeads::new(stream, misread)), service)
                                    .into_owned(),
                            )
                            .await
                    }
                    Some(tls) => {
                        let stream = tls.accept(stream).await?;
                        watcher
                            .watch(
                                builder
                                    .serve_connection(TokioIo::new(StrictHeads::new(stream, misread)), service)
                                    .into_owned(),
                            )
                            .await
                    }
                }
            };
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = begun.cancelled() => connection.await,
                () = tokio::time::sleep(head_limit) => Err("no request came in time".into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!(?drain, "some requests did not finish in time");
    }
}
