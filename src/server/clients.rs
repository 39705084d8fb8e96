//! Counts connections and streams, of the whole server and of each client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::LimitsConfig;
use crate::error::{Error, Result};

/// When a client should come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Calls of health that one client may have open: they need no key.
const MAX_HEALTH_CALLS: usize = 32;
/// Connections over a limit that are kept for a moment, to be told why they are not served; more are closed at once.
pub(super) const MAX_REFUSED: usize = 64;

/// All clients that are connected.
pub(super) struct Clients {
    max_connections: usize,
    max_connections_per_client: usize,
    max_streams: usize,
    max_streams_per_client: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: Count,
    refused: usize,
    each: HashMap<IpAddr, Count>,
}

/// Of the whole server or of one client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    connections: usize,
    streams: usize,
    health_calls: usize,
}

/// What is counted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its client may send messages without end.
    Stream,
    /// It asks for the server's health.
    Health,
    /// All others.
    Other,
}

impl Kind {
    fn count(self) -> Count {
        match self {
            Kind::Stream => Count { streams: 1, ..Count::default() },
            Kind::Health => Count { health_calls: 1, ..Count::default() },
            Kind::Other => Count::default(),
        }
    }
}

/// A connection that counts until it is dropped.
pub(super) struct Connection {
    clients: Arc<Clients>,
    client: IpAddr,
    /// Which limit it is over.
    over: Option<Over>,
    /// Calls that are open.
    calls: watch::Sender<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Over {
    what: &'static str,
    most: usize,
}

/// A call that is open on a connection, until it is dropped.
pub(super) struct OpenCall {
    connection: Arc<Connection>,
    kind: Kind,
}

impl Clients {
    pub fn new(limits: &LimitsConfig) -> Arc<Self> {
        Arc::new(Self {
            max_connections: limits.max_connections,
            max_connections_per_client: limits.max_connections_per_client,
            max_streams: limits.max_streams,
            max_streams_per_client: limits.max_streams_per_client,
            counts: Mutex::default(),
        })
    }

    /// Counts a connection; none where not even a refusal has room.
    pub fn connect(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<Connection>> {
        let client = client_of(peer.ip());
        let mut counts = self.counts.lock();
        let own = counts.each.get(&client).copied().unwrap_or_default();
        let over = if counts.all.connections >= self.max_connections {
            Some(Over { what: "connections of all clients", most: self.max_connections })
        } else if own.connections >= self.max_connections_per_client {
            Some(Over { what: "connections of one client", most: self.max_connections_per_client })
        } else {
            None
        };
        if over.is_some() {
            if counts.refused >= MAX_REFUSED {
                return None;
            }
            counts.refused += 1;
        } else {
            counts.add(client, Count { connections: 1, ..Count::default() });
        }
        Some(Arc::new(Connection { clients: self.clone(), client, over, calls: watch::Sender::new(0) }))
    }

    fn open_call(&self, client: IpAddr, kind: Kind) -> Result<()> {
        let mut counts = self.counts.lock();
        let own = counts.each.get(&client).copied().unwrap_or_default();
        match kind {
            Kind::Stream if counts.all.streams >= self.max_streams => {
                return Err(too_many("TOO_MANY_STREAMS", "streams of all clients", self.max_streams));
            }
            Kind::Stream if own.streams >= self.max_streams_per_client => {
                let most = self.max_streams_per_client;
                return Err(too_many("TOO_MANY_STREAMS", "streams of one client", most));
            }
            Kind::Health if own.health_calls >= MAX_HEALTH_CALLS => {
                let what = "calls of one client for the server's health";
                return Err(too_many("TOO_MANY_CHECKS", what, MAX_HEALTH_CALLS));
            }
            Kind::Stream | Kind::Health | Kind::Other => {}
        }
        counts.add(client, kind.count());
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, client: IpAddr, count: Count) {
        self.all.connections += count.connections;
        self.all.streams += count.streams;
        self.all.health_calls += count.health_calls;
        if count == Count::default() {
            return;
        }
        let own = self.each.entry(client).or_default();
        own.connections += count.connections;
        own.streams += count.streams;
        own.health_calls += count.health_calls;
    }

    fn remove(&mut self, client: IpAddr, count: Count) {
        let take = |from: &mut Count| {
            from.connections = from.connections.saturating_sub(count.connections);
            from.streams = from.streams.saturating_sub(count.streams);
            from.health_calls = from.health_calls.saturating_sub(count.health_calls);
        };
        take(&mut self.all);
        if let Some(own) = self.each.get_mut(&client) {
            take(own);
            if *own == Count::default() {
                self.each.remove(&client);
            }
        }
    }
}

impl Connection {
    /// Whose it is.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether it is kept only to be refused.
    pub fn is_refused(&self) -> bool {
        self.over.is_some()
    }

    /// Checks that calls of it are served.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`.
    pub fn check(&self) -> Result<()> {
        match self.over {
            Some(over) => Err(too_many("TOO_MANY_CONNECTIONS", over.what, over.most)),
            None => Ok(()),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`, `TOO_MANY_CHECKS`.
    pub fn open_call(self: &Arc<Self>, kind: Kind) -> Result<OpenCall> {
        self.clients.open_call(self.client, kind)?;
        self.calls.send_modify(|calls| *calls += 1);
        Ok(OpenCall { connection: self.clone(), kind })
    }

    /// Resolves when there is no call.
    pub async fn without_calls(&self) {
        // The sender lives as long as this does.
        let _ = self.calls.subscribe().wait_for(|calls| *calls == 0).await;
    }

    /// Resolves when there was no call for this long.
    pub async fn idle(&self, time: Duration) {
        let mut calls = self.calls.subscribe();
        loop {
            // The sender lives as long as this does.
            let _ = calls.wait_for(|calls| *calls == 0).await;
            if tokio::time::timeout(time, calls.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock();
        if self.over.is_some() {
            counts.refused = counts.refused.saturating_sub(1);
        } else {
            counts.remove(self.client, Count { connections: 1, ..Count::default() });
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.clients.counts.lock().remove(connection.client, self.kind.count());
        self.connection.calls.send_modify(|calls| *calls = calls.saturating_sub(1));
    }
}

/// Who an address belongs to: one IPv6 host has 64 bits of addresses to itself.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

fn too_many(reason: &'static str, what: &str, most: usize) -> Error {
    Error::exhausted(reason, format!("expected at most {most} {what}, got one more"), RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Arc<Clients> {
        Clients::new(&LimitsConfig {
            max_connections: 3,
            max_connections_per_client: 2,
            max_streams: 3,
            max_streams_per_client: 2,
            ..LimitsConfig::default()
        })
    }

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    #[test]
    fn connections_are_counted_for_each_client_and_for_all() {
        let clients = clients();
        let connect = |address| clients.connect(peer(address)).unwrap();
        let first = [connect("10.0.0.1"), connect("10.0.0.1")];
        assert!(first.iter().all(|connection| connection.check().is_ok()));
        let third = connect("::ffff:10.0.0.1");
        assert_eq!(third.check().unwrap_err().reason, "TOO_MANY_CONNECTIONS");
        let other = connect("10.0.0.2");
        assert!(other.check().is_ok());
        assert!(connect("10.0.0.3").is_refused());
        drop((first, third, other));
        assert!(!connect("10.0.0.3").is_refused());
        assert!(clients.counts.lock().each.is_empty());
        assert_eq!(clients.counts.lock().refused, 0);
    }

    #[test]
    fn only_so_many_connections_are_kept_to_be_refused() {
        let clients = clients();
        let all: Vec<_> = (0..100).filter_map(|_| clients.connect(peer("10.0.0.1"))).collect();
        assert_eq!(all.len(), 2 + MAX_REFUSED);
    }

    #[test]
    fn streams_are_counted_across_the_connections_of_a_client() {
        let clients = clients();
        let connections = [clients.connect(peer("2001:db8::1")), clients.connect(peer("2001:db8::2"))];
        let [first, second] = connections.map(|connection| connection.unwrap());
        let streams = [first.open_call(Kind::Stream), second.open_call(Kind::Stream)];
        assert!(streams.iter().all(|stream| stream.is_ok()));
        assert_eq!(first.open_call(Kind::Stream).err().unwrap().reason, "TOO_MANY_STREAMS");
        assert!(first.open_call(Kind::Other).is_ok());
        drop(streams);
        assert!(second.open_call(Kind::Stream).is_ok());
    }

    #[test]
    fn calls_for_health_are_counted_too() {
        let clients = clients();
        let connection = clients.connect(peer("10.0.0.1")).unwrap();
        let calls: Vec<_> =
            (0..MAX_HEALTH_CALLS).map(|_| connection.open_call(Kind::Health).unwrap()).collect();
        assert_eq!(connection.open_call(Kind::Health).err().unwrap().reason, "TOO_MANY_CHECKS");
        assert!(connection.open_call(Kind::Other).is_ok());
        assert!(clients.connect(peer("10.0.0.2")).unwrap().open_call(Kind::Health).is_ok());
        drop((calls, connection));
        assert!(clients.counts.lock().each.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_its_last_call() {
        let connection = clients().connect(peer("10.0.0.1")).unwrap();
        let call = connection.open_call(Kind::Other).unwrap();
        let idle = tokio::spawn({
            let connection = connection.clone();
            async move { connection.idle(Duration::from_secs(10)).await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!idle.is_finished());
        drop(call);
        tokio::time::sleep(Duration::from_secs(9)).await;
        drop(connection.open_call(Kind::Other).unwrap());
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!idle.is_finished());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(idle.is_finished());
    }
}
