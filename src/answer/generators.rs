//! The generators that are loaded, by id.

use std::sync::Arc;

use super::Mode;
use crate::error::{Error, Result};
use crate::generator::Generator;

/// Loaded generators; the first is the default. There may be none.
#[derive(Clone)]
pub struct Generators(Arc<[Arc<Generator>]>);

/// Generators that answer worse than quotations do (docs/EVALUATION.md), by the beginnings of their names.
const OUTDONE: &[&str] = &["smollm2-135m", "smollm2-360m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"];

fn is_outdone(id: &str) -> bool {
    let id = id.to_lowercase();
    OUTDONE.iter().any(|name| id.starts_with(name))
}

impl Generators {
    /// A registry of these.
    pub fn new(generators: Vec<Arc<Generator>>) -> Self {
        Self(generators.into())
    }

    /// Whether none is loaded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The generator of an id; an empty id means the default.
    ///
    /// # Errors
    /// `NO_GENERATOR` where none is loaded, `UNKNOWN_MODEL` where others are.
    pub fn get(&self, id: &str) -> Result<&Arc<Generator>> {
        let Some(default) = self.0.first() else {
            return Err(Error::precondition(
                "NO_GENERATOR",
                "no generator is loaded: import one with `trove models import FILE.gguf`, name it in generator.models \
                 and start the server again, or ask for an extractive answer",
            ));
        };
        if id.is_empty() {
            return Ok(default);
        }
        self.0.iter().find(|generator| generator.info().id == id).ok_or_else(|| {
            let loaded: Vec<_> = self.0.iter().map(|generator| generator.info().id.as_str()).collect();
            let message = format!("generator {id:?} is not loaded; loaded: {}", loaded.join(", "));
            Error::not_found("UNKNOWN_MODEL", message)
        })
    }

    /// The generator that writes an answer; `None` where sentences are quoted. The default one writes unasked unless it is
    /// known to answer worse than quotations do.
    ///
    /// # Errors
    /// Those of [`Generators::get`].
    pub fn writer(&self, mode: Mode, model: &str) -> Result<Option<&Arc<Generator>>> {
        match mode {
            Mode::Extractive => Ok(None),
            Mode::Generative => self.get(model).map(Some),
            Mode::Auto if !model.is_empty() => self.get(model).map(Some),
            Mode::Auto => Ok(self.0.first().filter(|generator| !is_outdone(&generator.info().id))),
        }
    }

    /// All of them, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Generator>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_generator_the_error_says_what_to_do() {
        let error = Generators::new(Vec::new()).get("any").err().unwrap();
        assert_eq!(error.reason, "NO_GENERATOR");
        assert!(error.message.contains("generator.models"));
    }
}
