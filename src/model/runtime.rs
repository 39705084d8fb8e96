use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::error::{Error, Result};

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The ONNX Runtime library of this process.
pub struct Runtime;

impl Runtime {
    /// Loads the library, once for the process; later calls do nothing. The path is the library or a directory that
    /// holds it.
    pub fn init(library: &Path) -> Result<()> {
        let mut slot = ENVIRONMENT.lock();
        if slot.is_some() {
            return Ok(());
        }
        let path = Self::find(library).ok_or_else(|| {
            Error::precondition(
                "RUNTIME_NOT_FOUND",
                format!("no ONNX Runtime library at {}; `trove setup` fetches one", library.display()),
            )
        })?;
        let failed = |e: String| {
            Error::precondition("RUNTIME_UNUSABLE", format!("cannot load {}: {e}", path.display()))
        };
        let builder = ort::init_from(&path).map_err(|e| failed(e.to_string()))?;
        let environment = builder.with_telemetry(false).build().map_err(|e| failed(e.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        *slot = Some(environment);
        Ok(())
    }

    /// The library that a path means: itself, or the one in a directory.
    pub fn find(library: &Path) -> Option<PathBuf> {
        find(library)
    }

    /// What the loaded library tells of how it was built, such as `git-branch=rel-1.24.1, git-commit-id=...`.
    ///
    /// # Errors
    /// `RUNTIME_NOT_LOADED`.
    pub fn build_info() -> Result<&'static str> {
        Self::environment()?;
        Ok(ort::info().trim_start_matches("ORT Build Info: "))
    }

    pub(super) fn environment() -> Result<Environment> {
        ENVIRONMENT.lock().clone().ok_or_else(|| {
            Error::precondition("RUNTIME_NOT_LOADED", "the ONNX Runtime library has not been loaded")
        })
    }
}

fn find(library: &Path) -> Option<PathBuf> {
    if library.is_file() {
        return Some(library.to_owned());
    }
    let entries = std::fs::read_dir(library).ok()?.flatten();
    let is_library = |name: &str| {
        name == "onnxruntime.dll" || name.starts_with("libonnxruntime.so") || {
            name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
        }
    };
    entries.filter(|e| e.file_name().to_str().is_some_and(is_library)).map(|e| e.path()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_not_found() {
        assert_eq!(find(Path::new("/nonexistent/libonnxruntime.so")), None);
    }
}
