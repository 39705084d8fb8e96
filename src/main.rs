//! The `trove` program.

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use trove::cli::{self, Cli, Outcome, ServeArgs};
use trove::config::Config;
use trove::error::{Error, Result};
use trove::{extract, server, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The worker runs before anything else: it lives under the limits that it sets itself.
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("extract-worker") {
        let memory = std::env::var(extract::MEMORY_VARIABLE).ok().and_then(|n| n.parse().ok());
        return exit(extract::worker_main(&args.next().unwrap_or_default(), memory.unwrap_or(2 << 30)));
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime can't be started: {error}");
            return exit(cli::EXIT_FAILED);
        }
    };
    let code = runtime.block_on(async {
        match cli::run(cli).await {
            Outcome::Exit(code) => code,
            Outcome::Serve(args) => match serve(args).await {
                Ok(()) => cli::EXIT_OK,
                Err(error) => {
                    eprintln!("error: {}: {error}", error.reason);
                    cli::EXIT_FAILED
                }
            },
        }
    });
    // What still blocks, such as the extraction of a file, was not acknowledged.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit(code)
}

fn exit(code: i32) -> std::process::ExitCode {
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}

async fn serve(args: ServeArgs) -> Result<()> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(data_dir) = args.data_dir {
        config.data_dir = data_dir;
    }
    if let Some(listen) = args.listen {
        config.listen = listen.parse().map_err(|_| {
            Error::invalid("BAD_CONFIG", format!("listen: expected an address and port, got {listen:?}"))
        })?;
    }
    telemetry::init(&config.log)?;
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::precondition("ADDRESS_UNUSABLE", format!("listen: {address} can't be listened on: {e}"))
    })?;
    let parts = tokio::task::spawn_blocking(move || server::Parts::load(config))
        .await
        .map_err(|e| Error::internal("LOAD_FAILED", "loading failed").with_source(e))??;
    let bound = listener.local_addr().unwrap_or(address);
    tracing::info!(address = %bound, "serving");
    server::run(parts, listener, stop_signal()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Resolves on SIGTERM or SIGINT.
async fn stop_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut stream) => {
                stream.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
