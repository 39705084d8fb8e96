//! The `trove` program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use trove::cli::output::Text;
use trove::cli::{self, Cli, Outcome, ServeArgs, output};
use trove::config::{Config, Flag};
use trove::error::{Error, Result};
use trove::http::{self, Phase, Readiness};
use trove::telemetry::Telemetry;
use trove::{extract, private, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The worker runs before anything else: it lives under the limits that it sets itself.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "extract-worker") {
        let media_type = args.next().unwrap_or_default();
        let bytes = args.next().and_then(|bytes| bytes.to_str()?.parse().ok()).unwrap_or_default();
        return exit(extract::worker_main(&media_type.to_string_lossy(), bytes));
    }
    std::panic::set_hook(Box::new(tell_panic));
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format!("error: the async runtime can't be started: {error}"));
            return exit(cli::EXIT_FAILED);
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Outcome::Exit(code) => {
            // Work that nobody waits for any longer, such as reading files, must not hold the exit up.
            runtime.shutdown_background();
            exit(code)
        }
        Outcome::Serve(args, json) => {
            let flags = match args.flags() {
                Ok(flags) => flags,
                Err(problem) => {
                    output::note(format!("error: {problem}"));
                    return exit(cli::EXIT_USAGE);
                }
            };
            let served = runtime.block_on(serve(args, &flags, json));
            // What still blocks, such as the extraction of a file, was not acknowledged.
            runtime.shutdown_timeout(Duration::from_secs(1));
            let Err(error) = served else { return exit(cli::EXIT_OK) };
            output::note(Text::new().lines(format!("error: {}: {error}", error.reason)));
            exit(cli::EXIT_FAILED)
        }
    }
}

/// Tells of a panic as the standard hook does, though of what its message quotes a terminal obeys nothing.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let (thread, backtrace) = (std::thread::current(), std::backtrace::Backtrace::capture());
    let told = Text::new().lines(format!("\nthread '{}' {panic}", thread.name().unwrap_or("<unnamed>")));
    output::note(match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => told.lines(format!("\n{backtrace}")),
        _ => told,
    });
}

fn exit(code: i32) -> std::process::ExitCode {
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}

async fn serve(args: ServeArgs, flags: &[Flag], json: bool) -> Result<()> {
    #[cfg(feature = "failpoints")]
    let _scenario = trove::fault::set_up();
    // Before anything is written: databases and indexes are made by libraries.
    private::set_umask();
    let config = Config::load(args.config.as_deref(), flags)?;
    let telemetry = Telemetry::start(&config)?;
    let reserve = server::take_descriptors(&config)?;
    let started = Instant::now();
    let address = config.listen;
    let listener = bind("listen", address).await?;
    let readiness = Readiness::default();
    if let (Some(address), Some(metrics)) = (config.metrics.listen, telemetry.metrics().cloned()) {
        let listener = bind("metrics.listen", address).await?;
        let bound = listener.local_addr().unwrap_or(address);
        tracing::info!(address = %bound, "metrics and health over HTTP");
        let serving = http::serve(listener, reserve, readiness.clone(), Arc::new(move || metrics.render()));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "there are no metrics any more");
            }
        });
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %config.data_dir.display(), "starting");
    let parts = tokio::task::spawn_blocking(move || server::Parts::load(config))
        .await
        .map_err(|e| Error::internal("LOAD_FAILED", "loading failed").with_source(e))??;
    if let Some(metrics) = telemetry.metrics() {
        metrics.observe(parts.gauges());
    }
    parts.tell_memory();
    readiness.set(Phase::Ready);
    let bound = listener.local_addr().unwrap_or(address);
    tracing::info!(address = %bound, seconds = started.elapsed().as_secs_f64(), "ready");
    let ready = if json { format!("{{\"listening\":\"{bound}\"}}") } else { format!("listening on {bound}") };
    // Nobody may be reading; the log has it too.
    let _ = output::line(ready);
    let stopping = async move {
        stop_signal().await;
        readiness.set(Phase::Stopping);
    };
    let served = server::run(parts, listener, stopping).await;
    tracing::info!("stopped");
    // The last spans are sent over the network, which blocks.
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
    served
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let message =
            format!("{key}: expected an address that is free and of this machine, got {address}: {e}");
        Error::precondition("ADDRESS_UNUSABLE", message)
    })
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
