//! Serves HTTP as WeChat's front does: header names in title case, idle connections closed after some seconds.

use std::time::Duration;

use axum::{Extension, Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::wire::{Connection, Wire};

/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop` is sent or dropped; then closes idle connections and finishes answers under way.
///
/// `idle_close` limits the silence before a request, and the time that its head takes.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    idle_close: Duration,
    mut stop: oneshot::Receiver<()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // The official SDK for Java looks header names up as `Wechatpay-Signature`, not without regard to case.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle_close).title_case_headers(true);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(reason) => {
                tracing::warn!(%reason, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small and follow each other: Nagle's algorithm would only hold them back.
        let _ = stream.set_nodelay(true);
        let wire = Wire::default();
        let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo(wire.clone()))));
        let connection = builder.serve_connection(TokioIo::new(Connection::new(stream, wire)), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(reason) = connection.await {
                tracing::debug!(%reason, "a connection broke");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
