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

impl Language {
    /// The language of a name or an ISO 639 code, in any case and with a region after it: german, de, DE-AT, deu.
    pub fn from_tag(tag: &str) -> Option<Self> {
        const CODES: [(&str, Language); 38] = [
            ("ar", Language::Arabic),
            ("ara", Language::Arabic),
            ("da", Language::Danish),
            ("dan", Language::Danish),
            ("nl", Language::Dutch),
            ("nld", Language::Dutch),
            ("en", Language::English),
            ("eng", Language::English),
            ("fi", Language::Finnish),
            ("fin", Language::Finnish),
            ("fr", Language::French),
            ("fra", Language::French),
            ("de", Language::German),
            ("deu", Language::German),
            ("el", Language::Greek),
            ("ell", Language::Greek),
            ("hu", Language::Hungarian),
            ("hun", Language::Hungarian),
            ("it", Language::Italian),
            ("ita", Language::Italian),
            ("no", Language::Norwegian),
            ("nb", Language::Norwegian),
            ("nn", Language::Norwegian),
            ("nor", Language::Norwegian),
            ("pt", Language::Portuguese),
            ("por", Language::Portuguese),
            ("ro", Language::Romanian),
            ("ron", Language::Romanian),
            ("ru", Language::Russian),
            ("rus", Language::Russian),
            ("es", Language::Spanish),
            ("spa", Language::Spanish),
            ("sv", Language::Swedish),
            ("swe", Language::Swedish),
            ("ta", Language::Tamil),
            ("tam", Language::Tamil),
            ("tr", Language::Turkish),
            ("tur", Language::Turkish),
        ];
        let tag = tag.trim().to_ascii_lowercase();
        let code = tag.split(['-', '_']).next().unwrap_or_default();
        let by_code = CODES.iter().find(|(known, _)| *known == code).map(|(_, language)| *language);
        by_code.or_else(|| {
            Self::ALL.into_iter().find(|language| language.name() == tag && *language != Self::Auto)
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
        for (tag, expected) in [
            ("de", Some(Language::German)),
            ("DE-at", Some(Language::German)),
            ("German", Some(Language::German)),
            ("none", Some(Language::None)),
            ("auto", None),
            ("xx", None),
        ] {
            assert_eq!(Language::from_tag(tag), expected, "{tag}");
        }
        let error = Language::parse("German").unwrap_err();
        assert_eq!(error.reason, "UNKNOWN_LANGUAGE");
        assert!(error.message.contains("german") && error.message.contains("none"), "{}", error.message);
    }
}
