//! Which files of a repository make the model that is wanted.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::api::Repository;
use crate::error::{Error, Result};
use crate::model::bert::Architecture;
use crate::model::decoder::{BESIDE, GRAPH_FILES};
use crate::model::dir::{Folder, ONNX, SAFETENSORS, TOKENIZER, is_inside, unsupported};
use crate::model::modules;
use crate::model::projection;

/// The list of the files that safetensors are split over.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Taken where no quantization is named and this one is there: the usual one.
const USUAL: &str = "Q4_K_M";
/// What GGUF files that are no language model have in their names.
const OTHERS: [&str; 3] = ["mmproj", "imatrix", "vocab-only"];

/// The names of a repository's files, and what is wanted of it.
pub(super) struct Choice<'a> {
    pub repository: Repository<'a>,
    pub names: &'a BTreeSet<String>,
    /// A quantization, or the name of a file.
    pub quantization: Option<&'a str>,
    pub without_head: bool,
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

impl Choice<'_> {
    /// The GGUF file, where the model is one: a quantization is named, or nothing else is there.
    ///
    /// # Errors
    /// `UNKNOWN_QUANTIZATION` names those that are there; `UNSUPPORTED_MODEL` for a file in several parts.
    pub fn gguf(&self) -> Result<Option<String>> {
        let is_model = |name: &&String| {
            let lower = name.to_ascii_lowercase();
            lower.ends_with(".gguf") && !OTHERS.iter().any(|other| lower.contains(other))
        };
        let files: Vec<&String> = self.names.iter().filter(is_model).collect();
        let has_other = self.names.iter().any(|name| name.ends_with("config.json"));
        let Some(wanted) = self.quantization else {
            return match files.as_slice() {
                [] => Ok(None),
                _ if has_other && self.has_weights() => Ok(None),
                [one] => self.whole(one).map(Some),
                many => {
                    let usual: Vec<&&String> = many.iter().filter(|name| is_of(name, USUAL)).collect();
                    match usual.as_slice() {
                        [one] => self.whole(one).map(Some),
                        _ => Err(self.unknown(None, many)),
                    }
                }
            };
        };
        let fits = |name: &&&String| is_named(name, wanted) || is_of(name, wanted);
        match files.iter().filter(fits).collect::<Vec<_>>().as_slice() {
            [one] => self.whole(one).map(Some),
            [first, ..] if parts_of(first).is_some() => self.whole(first).map(Some),
            _ => Err(self.unknown(Some(wanted), &files)),
        }
    }

    fn has_weights(&self) -> bool {
        let has =
            |name: &str| self.names.iter().any(|file| file == name || file.ends_with(&format!("/{name}")));
        [SAFETENSORS, INDEX, "model.onnx"].into_iter().any(has)
    }

    fn whole(&self, name: &str) -> Result<String> {
        let Some(parts) = parts_of(name) else { return Ok(name.to_owned()) };
        Err(unsupported(format!(
            "{}: expected a GGUF file in one piece, got {name}, one of {parts} parts: join them with llama.cpp's \
             llama-gguf-split --merge and import the whole, or pull a quantization that is not split",
            self.repository
        )))
    }

    fn unknown(&self, wanted: Option<&str>, files: &[&String]) -> Error {
        let known: Vec<&str> = files.iter().map(|name| name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let expected = match wanted {
            Some(wanted) => format!("expected one GGUF file of quantization or name {wanted:?}"),
            None => format!("expected a quantization, as in {}:Q8_0", self.repository),
        };
        Error::not_found("UNKNOWN_QUANTIZATION", format!("{}: {expected}; it has {known}", self.repository))
    }

    /// Files that are read before the rest is chosen.
    pub fn first(&self) -> Vec<String> {
        self.among([modules::MODULES.to_owned()])
    }

    /// The same, once the list of modules is there.
    pub fn second(&self, folder: &Folder) -> Result<Vec<String>> {
        let config = folder.layout.of_transformer("config.json");
        if !self.names.contains(&config) {
            return Err(self.missing(&config));
        }
        let dense = folder.layout.dense().map(|layer| modules::within(layer, "config.json"));
        Ok(self.among([config, INDEX.to_owned()].into_iter().chain(dense)))
    }

    /// The files that make the model, out of those that the repository has: configuration, tokenizer and one kind of
    /// weights.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING`; `UNSUPPORTED_MODEL` before anything large is fetched.
    pub fn wanted(&self, folder: &Folder) -> Result<Vec<String>> {
        let config = folder.config()?;
        if config.is_generator() {
            return self.generator(folder);
        }
        if !self.without_head {
            config.check_head()?;
        }
        let layout = &folder.layout;
        let own = |name: &str| layout.of_transformer(name);
        self.needs(&own(TOKENIZER))?;
        let mut wanted = self.among(["config.json", TOKENIZER, modules::LIMIT].map(own).into_iter().chain([
            modules::MODULES.to_owned(),
            modules::PROMPTS.to_owned(),
            layout.pooling(),
        ]));
        for file in projection::files(folder) {
            self.needs(&file)?;
            wanted.push(file);
        }
        let architecture = Architecture::read(&config);
        let safetensors = own(SAFETENSORS);
        let has_safetensors = self.names.contains(&safetensors);
        let graphs = ONNX.map(own);
        if has_safetensors && architecture.is_ok() {
            wanted.push(safetensors);
        } else if let Some(graph) = graphs.iter().find(|name| self.names.contains(*name)) {
            // Weights beside a graph are named after it: model.onnx_data, model.onnx.data.
            wanted.extend(self.names.iter().filter(|name| name.starts_with(graph.as_str())).cloned());
        } else if let (true, Err(error)) = (has_safetensors, architecture) {
            return Err(error);
        } else {
            return Err(self.missing(&format!("{safetensors}, {} or {}", graphs[0], graphs[1])));
        }
        Ok(wanted)
    }

    fn generator(&self, folder: &Folder) -> Result<Vec<String>> {
        self.needs(TOKENIZER)?;
        let mut wanted = self.among(BESIDE.map(str::to_owned));
        if self.names.contains(SAFETENSORS) {
            wanted.push(SAFETENSORS.to_owned());
        } else if let Some(index) = folder.json::<Index>(INDEX)? {
            wanted.push(INDEX.to_owned());
            let parts: BTreeSet<String> = index.weight_map.into_values().collect();
            for part in parts {
                if !is_inside(&part) {
                    return Err(unsupported(format!(
                        "{INDEX}: expected files of the repository, got {part:?}"
                    )));
                }
                self.needs(&part)?;
                wanted.push(part);
            }
        } else if let Some(graph) = ONNX.into_iter().find(|name| self.names.contains(*name)) {
            let beside = GRAPH_FILES.map(|name| graph.replace("model.onnx", name));
            wanted.extend(self.among(beside));
        } else {
            return Err(self.missing(&format!("{SAFETENSORS}, {INDEX}, {} or a GGUF file", ONNX[0])));
        }
        Ok(wanted)
    }

    fn among(&self, names: impl IntoIterator<Item = String>) -> Vec<String> {
        names.into_iter().filter(|name| self.names.contains(name)).collect()
    }

    fn needs(&self, name: &str) -> Result<()> {
        if self.names.contains(name) { Ok(()) } else { Err(self.missing(name)) }
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found("MODEL_FILE_MISSING", format!("expected {name} in {}, got none", self.repository))
    }
}

/// Whether a file has this name, with or without its folder and ending.
fn is_named(file: &str, name: &str) -> bool {
    let base = file.rsplit('/').next().unwrap_or(file);
    [file, base, stem(base)].contains(&name)
}

/// Whether a GGUF file is of a quantization, which is the last part of its name.
fn is_of(file: &str, quantization: &str) -> bool {
    let base = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    let name = stem(&base);
    let name = parts_of(&base).map_or(name, |_| name.get(..name.len() - PART.len()).unwrap_or(name));
    let Some(before) = name.strip_suffix(&quantization.to_ascii_lowercase()) else { return false };
    !quantization.is_empty() && before.chars().next_back().is_none_or(|c| matches!(c, '-' | '.'))
}

fn stem(name: &str) -> &str {
    let end = name.len().saturating_sub(".gguf".len());
    match name.get(end..) {
        Some(ending) if ending.eq_ignore_ascii_case(".gguf") => name.get(..end).unwrap_or(name),
        _ => name,
    }
}

/// How the name of a part of a split file ends, before `.gguf`.
const PART: &str = "-00001-of-00002";

/// Of how many parts a file is one, by its name.
fn parts_of(file: &str) -> Option<u32> {
    let name = stem(file);
    let ending = name.get(name.len().checked_sub(PART.len())?..)?;
    let (number, of) = ending.strip_prefix('-')?.split_once("-of-")?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(number) && is_number(of) { of.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], quantization: Option<&str>) -> Result<Option<String>> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let repository = Repository { owner: "o", name: "n" };
        Choice { repository, names: &names, quantization, without_head: false }.gguf()
    }

    #[test]
    fn a_gguf_file_is_chosen_by_quantization_or_name() {
        let names = [
            "README.md",
            "m-q4_k_m.gguf",
            "m-q8_0.gguf",
            "m-Q4_K_S.gguf",
            "m.IQ4_XS.gguf",
            "mmproj-m-f16.gguf",
        ];
        for (wanted, file) in [
            ("Q4_K_M", "m-q4_k_m.gguf"),
            ("q8_0", "m-q8_0.gguf"),
            ("iq4_xs", "m.IQ4_XS.gguf"),
            ("m-Q4_K_S.gguf", "m-Q4_K_S.gguf"),
            ("m-q8_0", "m-q8_0.gguf"),
        ] {
            assert_eq!(chosen(&names, Some(wanted)).unwrap().as_deref(), Some(file), "{wanted}");
        }
        // A part of a quantization's name is another quantization, or none.
        for wanted in ["Q4_K", "K_M", "0", "q4", "f16", "", "gguf", "Q5_K_M"] {
            let error = chosen(&names, Some(wanted)).unwrap_err();
            assert!(
                error.reason == "UNKNOWN_QUANTIZATION" && error.message.contains("m-q8_0.gguf"),
                "{wanted}: {error}"
            );
        }
        assert_eq!(chosen(&names, None).unwrap().as_deref(), Some("m-q4_k_m.gguf"), "the usual one");
        assert_eq!(chosen(&["only.Q2_K.gguf"], None).unwrap().as_deref(), Some("only.Q2_K.gguf"));
        assert_eq!(chosen(&["a-Q2_K.gguf", "a-Q3_K.gguf"], None).unwrap_err().reason, "UNKNOWN_QUANTIZATION");
        let both = ["config.json", "model.safetensors", "m-q4_k_m.gguf"];
        assert_eq!(chosen(&both, None).unwrap(), None);
        assert_eq!(chosen(&both, Some("q4_k_m")).unwrap().as_deref(), Some("m-q4_k_m.gguf"));
    }

    #[test]
    fn a_file_in_parts_is_refused_by_name() {
        let names = ["m-q4_k_m-00001-of-00002.gguf", "m-q4_k_m-00002-of-00002.gguf", "m-q2_k.gguf"];
        for wanted in [Some("Q4_K_M"), Some("m-q4_k_m-00001-of-00002.gguf")] {
            let error = chosen(&names, wanted).unwrap_err();
            assert!(
                error.reason == "UNSUPPORTED_MODEL" && error.message.contains("one of 2 parts"),
                "{error}"
            );
        }
        assert_eq!(chosen(&names, Some("q2_k")).unwrap().as_deref(), Some("m-q2_k.gguf"));
    }
}
