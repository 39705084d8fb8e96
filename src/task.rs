//! Work that blocks, off the async threads.

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, ErrorKind, Result};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_reason() {
        assert_eq!(blocking("X", || Ok(1)).await.unwrap(), 1);
        assert_eq!(blocking::<()>("X", || panic!("on purpose")).await.unwrap_err().reason, "X");
    }
}
