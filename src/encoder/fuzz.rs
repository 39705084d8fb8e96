//! Ways for `fuzz/` to the tokenizer.

use super::tokens::TextTokenizer;

/// Reads a tokenizer.json and tokenizes with it.
pub fn tokenizer(json: &[u8]) {
    let Ok(tokenizer) = TextTokenizer::read(json) else { return };
    let _ = tokenizer.greatest_id();
    text(&tokenizer, "Héllo, wörld 12\u{200d}a\u{301} [CLS] x");
}

fn text(tokenizer: &TextTokenizer, text: &str) {
    let Ok(encoded) = tokenizer.encode(text) else { return };
    assert_eq!(encoded.ids.len(), encoded.spans.len());
    assert!(encoded.spans.iter().all(|span| span.slice(text).is_some()), "a span that cuts a character");
    if let Ok(tokens) = tokenizer.tokenize(text, true) {
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let _ = tokenizer.detokenize(&ids, true);
    }
}
