//! The addresses: free, taken by a server of this kind, or by something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::Report;
use crate::cli::args::ConnectionArgs;
use crate::cli::client::Client;
use crate::config::Config;
use crate::proto::GetServerInfoRequest;

/// How long somebody may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nobody.
    None,
    /// A server of this kind.
    Trove,
    /// Something else.
    Other,
}

/// Checks the addresses and gives who is at that of the service.
pub async fn check(report: &mut Report, config: &Config, connection: &ConnectionArgs) -> Peer {
    let scheme = if config.tls.certificate.is_some() { "https" } else { "http" };
    let peer = service(report, config.listen, scheme, connection).await;
    if let Some(address) = config.metrics.listen {
        metrics(report, address, peer);
    }
    if let Some(endpoint) = &config.tracing.endpoint {
        collector(report, endpoint).await;
    }
    peer
}

async fn service(
    report: &mut Report,
    address: SocketAddr,
    scheme: &str,
    connection: &ConnectionArgs,
) -> Peer {
    let name = "listen";
    let error = match TcpListener::bind(address) {
        Ok(_) => {
            report.ok(name, format!("{address} is free"));
            return Peer::None;
        }
        Err(error) => error,
    };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        let remedy =
            "set listen to an address of this machine and a port that its user may take (above 1023)";
        report.problem(name, format!("{address} cannot be listened on: {error}"), remedy);
        return Peer::None;
    }
    match tokio::time::timeout(TIMEOUT, ask(reachable(address), scheme, connection)).await {
        Ok(Ok((status, version))) => {
            let status_name = status.as_str_name().to_ascii_lowercase().replace('_', " ");
            let message = format!("a server{version} answers at {address}: {status_name}");
            if status == ServingStatus::Serving {
                report.ok(name, message);
            } else {
                report.warning(name, message, "it starts or stops; look into its log");
            }
            Peer::Trove
        }
        _ => {
            let message = format!("{address} is taken by something that is no server of this kind");
            report.problem(name, message, "stop it, or set listen (--listen) to another port");
            Peer::Other
        }
    }
}

/// The health of a server, and its version where it tells.
async fn ask(
    address: SocketAddr,
    scheme: &str,
    connection: &ConnectionArgs,
) -> anyhow::Result<(ServingStatus, String)> {
    let client = Client::new(&format!("{scheme}://{address}"), connection)?;
    let health = client.health().check(HealthCheckRequest::default()).await?.into_inner();
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await;
    let version = info.map(|info| format!(" of version {}", info.into_inner().version)).unwrap_or_default();
    Ok((health.status(), version))
}

/// Where a client reaches what listens on an address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn metrics(report: &mut Report, address: SocketAddr, peer: Peer) {
    let name = "metrics.listen";
    match TcpListener::bind(address) {
        Ok(_) if peer == Peer::Trove => report.warning(
            name,
            format!("nobody listens at {address}, though a server runs"),
            "start the server again with these settings",
        ),
        Ok(_) => report.ok(name, format!("{address} is free")),
        Err(_) if peer == Peer::Trove => report.ok(name, format!("{address} is in use beside the server")),
        Err(error) => report.problem(
            name,
            format!("{address} cannot be listened on: {error}"),
            "set it to an address of this machine and a free port",
        ),
    }
}

async fn collector(report: &mut Report, endpoint: &str) {
    let name = "tracing.endpoint";
    let uri: Option<tonic::codegen::http::Uri> = endpoint.parse().ok();
    let Some((host, port)) = uri.as_ref().and_then(|uri| {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Some((uri.host()?.trim_matches(['[', ']']).to_owned(), port))
    }) else {
        return;
    };
    match tokio::time::timeout(TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => report.ok(name, format!("{endpoint} can be reached")),
        _ => report.warning(
            name,
            format!("{endpoint} cannot be reached: spans are lost"),
            "start the collector, or correct or unset the setting; the OTLP port for gRPC is 4317",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(of("[::]:7"), "[::1]:7");
        assert_eq!(of("10.0.0.1:7"), "10.0.0.1:7");
    }
}
