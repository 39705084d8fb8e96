//! TLS: certificates from files, which are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::x509;
use crate::access::FileStamp;
use crate::config::TlsConfig;
use crate::error::{Error, Result};
use crate::metrics;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Certificates and keys of the server.
pub(super) struct Tls {
    files: Files,
    current: ArcSwap<InUse>,
}

struct InUse {
    config: Arc<ServerConfig>,
    /// Of the files, from before they were read: what is written from then on is another one.
    stamps: Stamps,
    /// When the first of the chain expires, in seconds since 1970.
    expire_time: i64,
}

/// Of each file; none where there is no such file.
type Stamps = [Option<FileStamp>; 3];

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl Tls {
    /// Reads the files that the settings name; none where they name none.
    ///
    /// # Errors
    /// `BAD_CONFIG` where only some are named; `BAD_CERTIFICATE` where one cannot be read or they do not fit together.
    pub fn load(config: &TlsConfig) -> Result<Option<Arc<Self>>> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (None, None) if config.client_ca.is_none() => return Ok(None),
            _ => {
                let message =
                    "tls: expected both tls.certificate and tls.key, got one of them or only tls.client_ca";
                return Err(Error::invalid("BAD_CONFIG", message));
            }
        };
        let files = Files { certificate, key, client_ca: config.client_ca.clone() };
        let current = ArcSwap::from_pointee(files.read()?);
        Ok(Some(Arc::new(Self { files, current })))
    }

    /// Accepts with the certificates of now. Sessions are not resumed across a change.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load().config.clone())
    }

    /// When the certificate in use expires, in seconds since 1970.
    pub fn expire_time(&self) -> i64 {
        self.current.load().expire_time
    }

    /// Reads the files again whenever one changes; what does not fit together is logged and changes nothing.
    pub async fn follow(self: Arc<Self>) {
        // Not those of now: the models are loaded between the first reading and this.
        let mut seen = self.current.load().stamps.clone();
        loop {
            let stamps = self.files.stamps();
            if stamps == seen {
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            seen = stamps;
            match crate::task::guarded("TLS_FAILED", || self.files.read()) {
                Ok(read) => {
                    self.current.store(Arc::new(read));
                    counter!(metrics::TLS_RELOADS, "outcome" => "ok").increment(1);
                    tracing::info!(certificate = %self.files.certificate.display(), "certificates read again");
                }
                Err(error) => {
                    counter!(metrics::TLS_RELOADS, "outcome" => "failed").increment(1);
                    tracing::error!(
                        reason = error.reason,
                        "the certificates in use stay, the new ones do not work: {error}"
                    );
                }
            }
        }
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| FileStamp::of(path).ok().flatten();
        [stamp(&self.certificate), stamp(&self.key), self.client_ca.as_deref().and_then(stamp)]
    }

    fn read(&self) -> Result<InUse> {
        let stamps = self.stamps();
        let chain = certificates("tls.certificate", &self.certificate)?;
        let expire_time = self.expire_time(&chain)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| bad("tls.key", &self.key, "a private key in PEM", &e))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = match &self.client_ca {
            None => None,
            Some(path) => {
                let wrong = |e: &dyn std::fmt::Display| bad("tls.client_ca", path, "certificates in PEM", e);
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls.client_ca", path)? {
                    roots.add(certificate).map_err(|e| wrong(&e))?;
                }
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                Some(builder.build().map_err(|e| wrong(&e))?)
            }
        };
        let wrong = |e: &dyn std::fmt::Display| {
            bad("tls.certificate", &self.certificate, "a chain that fits the key of tls.key", e)
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| wrong(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(InUse { config: Arc::new(config), stamps, expire_time })
    }

    fn expire_time(&self, chain: &[CertificateDer<'_>]) -> Result<i64> {
        let times: Option<Vec<i64>> =
            chain.iter().map(|certificate| x509::expire_time(certificate)).collect();
        let wrong = || bad("tls.certificate", &self.certificate, "certificates of X.509", &"something else");
        times.and_then(|times| times.into_iter().min()).ok_or_else(wrong)
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |e: &dyn std::fmt::Display| bad(key, path, "certificates in PEM", e);
    let read = CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))?;
    let chain = read.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| wrong(&e))?;
    if chain.is_empty() {
        return Err(wrong(&"none"));
    }
    Ok(chain)
}

fn bad(key: &str, path: &Path, expected: &str, got: &dyn std::fmt::Display) -> Error {
    let message = format!("{key}: expected {expected}, got {}: {got}", path.display());
    Error::precondition("BAD_CERTIFICATE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Option<Arc<Tls>>> {
        Tls::load(&TlsConfig {
            certificate: Some(certificate.to_owned()),
            key: Some(key.to_owned()),
            client_ca: client_ca.map(Path::to_owned),
        })
    }

    fn reason(loaded: Result<Option<Arc<Tls>>>) -> &'static str {
        loaded.err().map_or("OK", |error| error.reason)
    }

    #[test]
    fn files_must_be_whole_and_fit_together() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path(), "a");
        let (_, other) = write(dir.path(), "b");
        assert_eq!(reason(load(&certificate, &key, Some(&certificate))), "OK");
        assert_eq!(reason(load(&certificate, &other, None)), "BAD_CERTIFICATE");
        assert_eq!(reason(load(&key, &key, None)), "BAD_CERTIFICATE");
        assert_eq!(reason(load(&certificate, &certificate, None)), "BAD_CERTIFICATE");
        assert_eq!(reason(load(&certificate, &key, Some(&key))), "BAD_CERTIFICATE");
        assert_eq!(reason(load(&dir.path().join("none"), &key, None)), "BAD_CERTIFICATE");
    }

    #[test]
    fn the_first_certificate_to_expire_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path(), "a");
        let whole = load(&certificate, &key, None).unwrap().unwrap().expire_time();
        let mut soon = rcgen::CertificateParams::new(vec!["authority".to_owned()]).unwrap();
        soon.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let authority = soon.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let chain = std::fs::read_to_string(&certificate).unwrap() + &authority.pem();
        std::fs::write(&certificate, chain).unwrap();
        let first = load(&certificate, &key, None).unwrap().unwrap().expire_time();
        assert_eq!(first, 1_893_456_000);
        assert!(whole > first);
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_were_replaced_before_they_are_followed_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path(), "a");
        let tls = load(&certificate, &key, None).unwrap().unwrap();
        let before = tls.expire_time();
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut other = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        other.not_after = rcgen::date_time_ymd(2031, 1, 1);
        std::fs::write(&certificate, other.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        let _following = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(tls.clone().follow()));
        tokio::time::sleep(INTERVAL * 3).await;
        assert_eq!((tls.expire_time(), before == 1_924_992_000), (1_924_992_000, false));
    }

    #[test]
    fn half_of_the_settings_is_refused() {
        assert!(Tls::load(&TlsConfig::default()).unwrap().is_none());
        let some = Some(PathBuf::from("x"));
        let half = [
            TlsConfig { certificate: some.clone(), ..TlsConfig::default() },
            TlsConfig { key: some.clone(), ..TlsConfig::default() },
            TlsConfig { client_ca: some, ..TlsConfig::default() },
        ];
        for config in half {
            assert_eq!(reason(Tls::load(&config)), "BAD_CONFIG");
        }
    }
}
