//! Listening: connections with limits of their own, and an end that lets everybody finish.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{ApiParts, ApiSettings, names, schedules::keep_catalogue, tls::Tls};
use crate::exit::Failure;

/// Whoever takes longer to send a request's head, or is silent for so long between two, is cut off.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
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
    let ApiSettings { listen, connections_max, .. } = parts.settings.clone();
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::wrong(format!("api.listen {listen} cannot be used: {error}")))?;
    let stop = parts.stop.clone();
    let catalogue = keep_catalogue(parts.database.clone(), parts.cache.clone(), stop.clone());
    let broker = parts.broker.clone();
    let tls = parts.settings.tls()?;
    let router = super::router(parts);
    if let Some(tls) = tls.clone() {
        tokio::spawn(tls.follow_files());
    }
    tokio::spawn(catalogue);
    tracing::info!(%listen, tls = tls.is_some(), "answering");
    serve(listener, tls, router, connections_max, stop, drain).await;
    broker.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Serves until `stop`, then takes no more connections and gives those there are `drain` to finish.
async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
    drain: Duration,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(HEAD_FIELDS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("a few kilobytes"))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(HEAD_LIMIT));
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let next = stop.run_until_cancelled(async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        });
        let (stream, place) = match next.await {
            None => break,
            Some((Ok((stream, _)), place)) => (stream, place),
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // Small answers are not held back to be sent together.
        let _ = stream.set_nodelay(true);
        let (router, builder, tls) = (router.clone(), builder.clone(), tls.clone());
        let watcher = connections.watcher();
        tokio::spawn(async move {
            let _place = place;
            let service = TowerToHyperService::new(router);
            let ended = match tls {
                None => watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await
                    }
                    Err(error) => Err(error.into()),
                },
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
