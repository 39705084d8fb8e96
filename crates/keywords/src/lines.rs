//! The only analysis that tantivy does: the terms of a text come one a line. An empty line keeps those around it apart.

use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};

/// Name of the analysis.
pub const LINES: &str = "lines";

/// Splits at line ends.
#[derive(Clone, Default)]
pub struct Lines {
    token: Token,
}

/// The lines of one text.
pub struct LineStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl Lines {
    pub fn analyzer() -> TextAnalyzer {
        TextAnalyzer::from(Self::default())
    }
}

impl Tokenizer for Lines {
    type TokenStream<'a> = LineStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> LineStream<'a> {
        self.token.reset();
        LineStream { text, at: 0, token: &mut self.token }
    }
}

impl TokenStream for LineStream<'_> {
    fn advance(&mut self) -> bool {
        let mut rest = self.text.get(self.at..).unwrap_or_default();
        while let Some(others) = rest.strip_prefix('\n') {
            rest = others;
            self.at += 1;
            self.token.position = self.token.position.wrapping_add(1);
        }
        if rest.is_empty() {
            return false;
        }
        let line = rest.split('\n').next().unwrap_or_default();
        self.token.text.clear();
        self.token.text.push_str(line);
        self.token.offset_from = self.at;
        self.at += line.len() + 1;
        self.token.offset_to = self.at - 1;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
