//! Points where tests let the disk fail or end the program at once. They are in a program only if it is built with
//! the feature `failpoints`; then the variable `FAILPOINTS` sets them, such as `store-fsync=return(io)`.

/// What happens at a point, by its argument: `full` is a disk without room, `files` is a want of file descriptors, `abort`
/// ends the program as a kill does, everything else is a disk that fails.
#[cfg(feature = "failpoints")]
pub fn error(kind: Option<&str>) -> std::io::Error {
    match kind {
        Some("abort") => std::process::abort(),
        Some("files") => std::io::Error::from_raw_os_error(libc::EMFILE),
        Some("full") => std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left on the disk"),
        _ => std::io::Error::other("the disk failed"),
    }
}

/// Reads `FAILPOINTS`.
#[cfg(feature = "failpoints")]
pub fn set_up() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Names a point; the function that it stands in returns the error there.
macro_rules! point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name, |kind: Option<String>| {
            Err($crate::store::from_io($crate::fault::error(kind.as_deref())))
        });
    };
}
pub(crate) use point;
