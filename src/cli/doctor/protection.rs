//! Who may: certificates and API keys, and whether the server can be reached without them.

use super::Report;
use crate::access::Keyring;
use crate::config::Config;
use crate::error::Error;
use crate::server::has_tls;

/// The name of the check.
const NAME: &str = "protection";

/// Checks it.
pub fn check(report: &mut Report, config: &Config) {
    let tls = has_tls(config);
    if let Err(error) = &tls {
        report.problem(
            NAME,
            told(error),
            "correct tls.certificate, tls.key or tls.client_ca (docs/SECURITY.md)",
        );
    }
    let keys = Keyring::open(&config.data_dir).map(|keyring| !keyring.is_open());
    if let Err(error) = &keys {
        report.problem(NAME, told(error), "make the file of the keys readable, or bring it back from a copy");
    }
    let (Ok(tls), Ok(keys)) = (tls, keys) else { return };
    let shown = |there, name| format!("{name} {}", if there { "on" } else { "off" });
    let message = format!("{}, {}", shown(tls, "TLS"), shown(keys, "API keys"));
    if config.listen.ip().to_canonical().is_loopback() || (tls && keys) {
        return report.ok(NAME, message);
    }
    let message = format!("{message}, and listen: {} can be reached from other machines", config.listen);
    let remedy =
        "set up TLS (tls.certificate, tls.key) and API keys (`trove keys create`), or listen on 127.0.0.1";
    if config.access.strict {
        report.problem(NAME, message, remedy);
    } else {
        report.warning(NAME, message, remedy);
    }
}

fn told(error: &Error) -> String {
    format!("{}: {}", error.reason, error.message)
}
