//! What the server could not read: named for people, and told to the shell by the exit code.

use super::{EXIT_FAILED, EXIT_OK, output};
use crate::proto::DamagedDocument;

/// Names documents that are damaged, and what became of them. Gives the exit code of a command that did all else.
pub fn documents(damaged: &[DamagedDocument], so: &str) -> i32 {
    for DamagedDocument { document_id, error_reason, error_message } in damaged {
        output::note(format!("error: document {document_id:?} {so}: {error_reason}: {error_message}"));
    }
    exit_code(damaged.is_empty())
}

/// The same for collections.
pub fn collections(damaged: &[String], so: &str) -> i32 {
    for name in damaged {
        output::note(format!("error: collection {name:?} is damaged and {so}; the server's log has more"));
    }
    exit_code(damaged.is_empty())
}

fn exit_code(is_whole: bool) -> i32 {
    if is_whole { EXIT_OK } else { EXIT_FAILED }
}
