//! The HTTP listener for operators: metrics for Prometheus, liveness and readiness for supervisors. It has an address of
//! its own (`metrics.listen`), so that it can stay closed to those who use the service.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};
use crate::task;

/// Content type of the Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the metrics in the Prometheus text format. Called off the async threads.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Where the server is between start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Models and indexes are loaded.
    Starting,
    /// Calls are served.
    Ready,
    /// No new calls should come.
    Stopping,
}

/// Tells and is told the [`Phase`].
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Goes on to a phase.
    pub fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Stopping => 2,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    /// The phase of now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }
}

/// Serves `/metrics`, `/healthz` (200 while the process answers) and `/readyz` (200 while calls are served, else 503)
/// until the future is dropped. Descriptors from `reserve` on are not for its connections.
///
/// # Errors
/// `SERVE_FAILED` where the listener fails.
pub async fn serve(
    listener: TcpListener,
    reserve: RawFd,
    readiness: Readiness,
    render: Render,
) -> Result<()> {
    let listener = Reserved { listener, reserve };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { readiness, render });
    axum::serve(listener, router).await.map_err(|e| {
        Error::internal("SERVE_FAILED", format!("serving metrics over HTTP failed: {e}")).with_source(e)
    })
}

/// Accepts connections for as long as there are descriptors for them.
struct Reserved {
    listener: TcpListener,
    reserve: RawFd,
}

impl Listener for Reserved {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            // The lowest free number is given, so all below it are in use.
            if stream.as_raw_fd() < self.reserve {
                return (stream, peer);
            }
            tracing::debug!(%peer, "a connection for metrics is closed: the rest of the file descriptors is the store's");
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Listener::local_addr(&self.listener)
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    render: Render,
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let rendered = task::blocking("METRICS_FAILED", move || Ok((shared.render)())).await;
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n").into_response()
        }
    }
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.readiness.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn health_follows_the_phase_and_metrics_are_rendered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::default();
        let server = tokio::spawn(serve(
            listener,
            RawFd::MAX,
            readiness.clone(),
            Arc::new(|| "trove_x 1\n".to_owned()),
        ));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        readiness.set(Phase::Ready);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        readiness.set(Phase::Stopping);
        let stopping = get(address, "/readyz").await;
        assert!(stopping.starts_with("HTTP/1.1 503") && stopping.ends_with("stopping\n"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains(EXPOSITION) && metrics.ends_with("trove_x 1\n"), "{metrics}");
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
        server.abort();
    }
}
