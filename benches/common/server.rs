//! The real server as a child process.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use trove::proto;
use trove::proto::collection_service_client::CollectionServiceClient;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(600);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    url: String,
    /// From the start of the process to its first answer.
    pub opened: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the program on a data directory and waits until it answers.
    pub async fn start(data: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        Self::start_with(data, &[]).await
    }

    /// Starts it with settings, by the names that the environment has for them.
    pub async fn start_with(
        data: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data)
            .env("TROVE__LOG__FILTER", "warn")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}"), opened: Duration::ZERO };
        while started.elapsed() < START {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("the server stopped at its start: {status}").into());
            }
            if let Ok(channel) = server.channel().await {
                let request = proto::ListCollectionsRequest::default();
                if CollectionServiceClient::new(channel).list_collections(request).await.is_ok() {
                    server.opened = started.elapsed();
                    return Ok(server);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err("the server did not answer in time".into())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        connect(&self.url).await
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to stop and waits.
    pub async fn stop(mut self) -> Result<(), Box<dyn std::error::Error>> {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > STOP {
                return Err("the server did not stop in time".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// A connection to a server.
pub async fn connect(url: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::try_from(url.to_owned())?.connect().await
}

/// Makes a directory that borrows the runtime library and the models.
pub fn borrow_models(models: &Path, data: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(data)?;
    for part in ["runtime", "models"] {
        if !data.join(part).exists() {
            std::os::unix::fs::symlink(models.join(part), data.join(part))?;
        }
    }
    Ok(())
}
