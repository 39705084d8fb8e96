//! What is encoded before the text of a passage: the title of its document, before the first one.
//!
//! The title of a record stands in a field of its own, so the text does not hold it; what is asked is often there. Before
//! every passage it would make those of a long document more alike (docs/EVALUATION.md).

use crate::domain::Span;
use crate::encoder::{Encoder, PassageInput};
use crate::error::{Error, Result};
use crate::text::PassageDraft;

/// Most tokens of a title that are encoded.
const MAX_TITLE_TOKENS: usize = 32;
/// Tokens that are left free where text follows a title: there both may become other tokens than each by itself.
const SLACK_TOKENS: usize = 2;

/// Tokens that the first passage leaves free for the title.
///
/// # Errors
/// Those of the tokenizer.
pub(super) fn room(encoder: &Encoder, title: &str) -> Result<usize> {
    if title.is_empty() {
        return Ok(0);
    }
    Ok(encoder.token_spans(title)?.len().min(MAX_TITLE_TOKENS) + SLACK_TOKENS)
}

/// A passage as it is encoded; `title` is that of the document where the passage is its first.
///
/// # Errors
/// Those of the tokenizer; `BAD_SPAN` where the passage is not within the text.
pub(super) fn passage_input(
    encoder: &Encoder,
    title: Option<&str>,
    text: &str,
    draft: &PassageDraft,
) -> Result<PassageInput> {
    let slice = draft.span.slice(text).ok_or_else(|| {
        Error::internal("BAD_SPAN", format!("passage span {:?} does not fit its text", draft.span))
    })?;
    let relative = |s: &Span| {
        Span::new(s.start.saturating_sub(draft.span.start), s.end.saturating_sub(draft.span.start))
    };
    let sentences = draft.sentences.iter().map(relative).collect();
    let context = title.map(|title| context(encoder, title, slice)).transpose()?.unwrap_or_default();
    Ok(PassageInput { context, text: slice.to_owned(), sentences })
}

/// As much of a title as there is room for beside the text of a passage that does not hold it.
fn context(encoder: &Encoder, title: &str, passage: &str) -> Result<String> {
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    if title.is_empty() || passage.contains(&title) {
        return Ok(String::new());
    }
    let taken = encoder.token_spans(passage)?.len() + SLACK_TOKENS;
    let most = (encoder.info().passage_tokens as usize).saturating_sub(taken).min(MAX_TITLE_TOKENS);
    let Some(cut) = encoder.token_spans(&title)?.get(most).map(|first_left_out| first_left_out.start) else {
        return Ok(title);
    };
    Ok(title.get(..cut as usize).unwrap_or_default().trim_end().to_owned())
}
