//! What is told of parts of files that could not be read.

use trove_core::domain::Warning;

/// Most warnings of a document; one more counts the rest.
const MAX_WARNINGS: usize = 20;
/// Most bytes of a message.
const MAX_MESSAGE_BYTES: usize = 300;

/// Most warnings that are kept while a file is read.
const MAX_KEPT: usize = 100;

/// Keeps what could not be read; of very much the first.
pub(super) fn tell(warnings: &mut Vec<Warning>, warning: Warning) {
    if warnings.len() < MAX_KEPT {
        warnings.push(warning);
    }
}

/// A warning about a page, from one, or about the whole file.
pub(super) fn warning(page: Option<u32>, reason: &str, message: impl Into<String>) -> Warning {
    Warning { page, reason: reason.to_owned(), message: message.into() }
}

/// The first warnings, and how many more there are.
pub(super) fn bounded(mut warnings: Vec<Warning>) -> Vec<Warning> {
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    for warning in &mut warnings {
        warning.message.truncate(warning.message.floor_char_boundary(MAX_MESSAGE_BYTES));
    }
    if more > 0 {
        warnings.push(warning(None, "MORE_WARNINGS", format!("{more} more parts could not be read")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_few_and_short() {
        let one = |page| warning(Some(page), "PAGE_WITHOUT_TEXT", "é".repeat(1000));
        let few = bounded((1..=20).map(one).collect());
        assert!(few.len() == 20 && few.iter().all(|w| w.message.len() == MAX_MESSAGE_BYTES));
        let many = bounded((1..=55).map(one).collect());
        assert_eq!(many.len(), 21);
        assert_eq!(many[20], warning(None, "MORE_WARNINGS", "35 more parts could not be read"));
    }
}
