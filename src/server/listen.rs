//! Accepts connections, within limits, and serves HTTP/2 and HTTP/1.1 on them.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::metrics::counter;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service;
use tower::util::ServiceExt;

use super::clients::{Clients, Connection};
use super::tls::Tls;
use crate::config::LimitsConfig;
use crate::metrics;

/// How often a quiet connection is asked whether its client is still there, and how long that may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that is refused is kept, to say why.
const REFUSED_TIME: Duration = Duration::from_secs(5);
/// How long a connection without calls may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(10);
/// How long to wait where connections cannot be accepted, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Bytes of a call, and of all calls of a connection, that a client may send before they are read. A stream that waits for
/// memory does not read: the others of its connection go on nevertheless.
pub(super) const STREAM_WINDOW: usize = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of answers of a call that wait for the socket, beyond the piece that was given last.
const SEND_BUFFER: usize = 64 << 10;
/// Most bytes of a call's headers.
const HEADER_BYTES: u32 = 16 << 10;
/// Bytes of a connection of HTTP/1.1 that wait to be read or written, and headers of a call of it.
const HTTP1_BUFFER: usize = 64 << 10;
const HTTP1_HEADERS: usize = 64;
/// What a connection takes: buffers for reading, writing and encryption, and what is left of calls that were refused.
pub(super) const CONNECTION_BYTES: usize = 192 << 10;
/// What a client sends first, before any frame.
const PREFACE_BYTES: u64 = 24;

/// How connections are served.
#[derive(Clone)]
pub(super) struct Listening {
    pub clients: Arc<Clients>,
    pub tls: Option<Arc<Tls>>,
    pub handshake_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_streams: u32,
    /// From this number on descriptors are not for connections.
    pub reserve: RawFd,
}

impl Listening {
    pub fn new(clients: Arc<Clients>, tls: Option<Arc<Tls>>, limits: &LimitsConfig, reserve: RawFd) -> Self {
        Self {
            clients,
            tls,
            handshake_timeout: Duration::from_secs(limits.handshake_timeout_seconds),
            idle_timeout: Duration::from_secs(limits.idle_timeout_seconds),
            max_streams: limits.max_concurrent_requests_per_connection,
            reserve,
        }
    }

    /// Serves until `shutdown` resolves, then lets the calls that run end.
    pub async fn serve<S>(self, listener: TcpListener, service: S, shutdown: impl Future<Output = ()>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let _following = self.tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow())));
        let (stopping, connections) = (CancellationToken::new(), TaskTracker::new());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!("no connection can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            // The lowest free number is given, so all below it are in use.
            if stream.as_raw_fd() >= self.reserve {
                tracing::debug!(%peer, "a connection is closed: the rest of the file descriptors is the store's");
                continue;
            }
            let Some(connection) = self.clients.connect(peer) else {
                tracing::debug!(%peer, "a connection over the limits is closed");
                continue;
            };
            let (own, service) = (self.clone(), service.clone());
            let stopping = stopping.clone();
            connections.spawn(async move {
                own.accept(stream, connection, service, stopping).await;
            });
        }
        drop(listener);
        stopping.cancel();
        connections.close();
        connections.wait().await;
    }

    async fn accept<S>(
        self,
        stream: TcpStream,
        connection: Arc<Connection>,
        service: S,
        stopping: CancellationToken,
    ) where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        // With Nagle's algorithm an answer in two writes would wait for the client's delayed acknowledgement, 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY cannot be set: {error}");
        }
        let Some(tls) = &self.tls else {
            return self.connection(stream, connection, service, stopping).await;
        };
        let handshake = tokio::time::timeout(self.handshake_timeout, tls.acceptor().accept(stream));
        let accepted = tokio::select! {
            accepted = handshake => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.connection(stream, connection, service, stopping).await,
            Ok(Err(error)) => {
                counter!(metrics::TLS_HANDSHAKE_FAILURES, "reason" => "refused").increment(1);
                tracing::debug!("a TLS handshake failed: {error}");
            }
            Err(_) => {
                counter!(metrics::TLS_HANDSHAKE_FAILURES, "reason" => "timeout").increment(1);
                tracing::debug!("a TLS handshake took too long");
            }
        }
    }

    async fn connection<S, IO>(
        &self,
        io: IO,
        connection: Arc<Connection>,
        service: S,
        stopping: CancellationToken,
    ) where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let received = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Counted { io, received: received.clone() });
        let peer = connection.clone();
        let service = service.map_request(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            request
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.handshake_timeout)
            .max_buf_size(HTTP1_BUFFER)
            .max_headers(HTTP1_HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(self.max_streams)
            .initial_stream_window_size(STREAM_WINDOW as u32)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_BYTES);
        let served = builder.serve_connection(io, TowerToHyperService::new(service));
        let mut served = pin!(served);
        let silent = async {
            tokio::time::sleep(self.handshake_timeout).await;
            if received.load(Ordering::Relaxed) >= PREFACE_BYTES {
                std::future::pending::<()>().await;
            }
        };
        let refused = async {
            if !connection.is_refused() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(REFUSED_TIME).await;
        };
        let is_stopping = tokio::select! {
            ended = served.as_mut() => return log(ended),
            () = silent => return tracing::debug!("a connection sent nothing"),
            () = refused => false,
            () = connection.idle(self.idle_timeout) => false,
            () = stopping.cancelled() => true,
        };
        // Tells the client to open no more calls here, and ends when those that run have ended.
        served.as_mut().graceful_shutdown();
        let late = async {
            if is_stopping {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(CLOSE_TIME).await;
            connection.without_calls().await;
        };
        tokio::select! {
            ended = served => log(ended),
            () = late => {}
        }
    }
}

/// What one client did, rather than a want of the machine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!("a connection failed: {error}");
    }
}

/// Counts what is received.
struct Counted<IO> {
    io: IO,
    received: Arc<AtomicU64>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.received.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, data)
    }
}
