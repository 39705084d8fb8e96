use std::fmt;

use crate::error::{Error, Result};

/// The language of a collection's texts: whose endings its keyword index leaves out, and which words of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// That of each document, as its text tells.
    Auto,
    /// Words as they stand, and all of them.
    None,
    /// Arabic.
    Arabic,
    /// Danish.
    Danish,
    /// Dutch.
    Dutch,
    /// English.
    #[default]
    English,
    /// Finnish.
    Finnish,
    /// French.
    French,
    /// German.
    German,
    /// Greek.
    Greek,
    /// Hungarian.
    Hungarian,
    /// Italian.
    Italian,
    /// Norwegian.
    Norwegian,
    /// Portuguese.
    Portuguese,
    /// Romanian.
    Romanian,
    /// Russian.
    Russian,
    /// Spanish.
    Spanish,
    /// Swedish.
    Swedish,
    /// Tamil.
    Tamil,
    /// Turkish.
    Turkish,
}

impl Language {
    /// All languages.
    pub const ALL: [Language; 20] = [
        Language::Auto,
        Language::None,
        Language::Arabic,
        Language::Danish,
        Language::Dutch,
        Language::English,
        Language::Finnish,
        Language::French,
        Language::German,
        Language::Greek,
        Language::Hungarian,
        Language::Italian,
        Language::Norwegian,
        Language::Portuguese,
        Language::Romanian,
        Language::Russian,
        Language::Spanish,
        Language::Swedish,
        Language::Tamil,
        Language::Turkish,
    ];

    /// Its English name in lower case; `auto` and `none` for those that are none.
    pub fn name(self) -> &'static str {
        match self {
            Language::Auto => "auto",
            Language::None => "none",
            Language::Arabic => "arabic",
            Language::Danish => "danish",
            Language::Dutch => "dutch",
            Language::English => "english",
            Language::Finnish => "finnish",
            Language::French => "french",
            Language::German => "german",
            Language::Greek => "greek",
            Language::Hungarian => "hungarian",
            Language::Italian => "italian",
            Language::Norwegian => "norwegian",
            Language::Portuguese => "portuguese",
            Language::Romanian => "romanian",
            Language::Russian => "russian",
            Language::Spanish => "spanish",
            Language::Swedish => "swedish",
            Language::Tamil => "tamil",
            Language::Turkish => "turkish",
        }
    }

    /// The language of a name; English where it is empty.
    ///
    /// # Errors
    /// `UNKNOWN_LANGUAGE`, with the names that are known.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::default());
        }
        Self::ALL.into_iter().find(|language| language.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|language| language.name()).collect();
            let got: String = name.chars().take(80).collect();
            Error::invalid("UNKNOWN_LANGUAGE", format!("expected one of {}, got {got:?}", known.join(", ")))
        })
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_others_refused_with_the_list() {
        for language in Language::ALL {
            assert_eq!(Language::parse(language.name()).unwrap(), language);
        }
        assert_eq!(Language::parse("").unwrap(), Language::English);
        let error = Language::parse("German").unwrap_err();
        assert_eq!(error.reason, "UNKNOWN_LANGUAGE");
        assert!(error.message.contains("german") && error.message.contains("none"), "{}", error.message);
    }
}
