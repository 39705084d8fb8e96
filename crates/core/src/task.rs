//! Work that blocks, off the async threads, and work that must not end its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::metrics::counter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::metrics;

/// Asked now and then by what takes long: whether nobody waits for it any more. Once true, it stays true.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// Fails where nobody waits any more.
///
/// # Errors
/// `CANCELLED`.
pub fn check_cancelled(is_cancelled: Cancelled<'_>) -> Result<()> {
    if is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "CANCELLED", "the caller has left"));
    }
    Ok(())
}

/// Runs work on a blocking thread, within the tracing span of the caller, so that its log lines and spans belong to the
/// same call. What has not begun when the caller leaves never begins.
///
/// # Errors
/// Those of the work; the reason given where it panics.
pub async fn blocking<T: Send + 'static>(
    reason: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let span = tracing::Span::current();
    AbortOnDropHandle::new(tokio::task::spawn_blocking(move || span.in_scope(work)))
        .await
        .map_err(|e| Error::internal(reason, "a background task failed").with_source(e))?
}

/// The same for work that takes long: it is told when the caller leaves.
///
/// # Errors
/// As [`blocking`].
pub async fn cancellable<T: Send + 'static>(
    reason: &'static str,
    work: impl FnOnce(Cancelled<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let caller = CancellationToken::new();
    let _leaves = caller.clone().drop_guard();
    blocking(reason, move || work(&|| caller.is_cancelled())).await
}

/// One piece of the work of a thread that serves others for as long as the program runs: a panic ends the piece and not
/// the thread, and is counted. What the work changes must be right, or made right by the caller, wherever it stops.
///
/// # Errors
/// Those of the work; the reason given where it panics.
pub fn guarded<T>(reason: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        counter!(metrics::PANICS).increment(1);
        let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        // The panic itself has been written to standard error, with its place.
        tracing::error!(reason, said, "a part of the program panicked; its thread goes on");
        Err(Error::internal(reason, "a fault of the program ended this work; it is in the log"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_a_piece_of_work_and_not_its_thread() {
        assert_eq!(guarded("X", || Ok(1)).unwrap(), 1);
        assert_eq!(guarded::<()>("X", || panic!("on purpose")).unwrap_err().reason, "X");
        assert_eq!(guarded::<()>("X", || Err(Error::internal("Y", "y"))).unwrap_err().reason, "Y");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_reason() {
        assert_eq!(blocking("X", || Ok(1)).await.unwrap(), 1);
        assert_eq!(blocking::<()>("X", || panic!("on purpose")).await.unwrap_err().reason, "X");
    }
}
