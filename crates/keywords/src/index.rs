//! The files of an index and its writer, which is there only while there is something to write.

use std::collections::HashMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use futures::FutureExt;
use roaring::RoaringBitmap;
use tantivy::index::SegmentMeta;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, MergePolicy, NoMergePolicy};
use tantivy::{
    FutureResult, Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError, Term,
};

use crate::analyzer::{Analyzer, Terms};
use crate::lines::{LINES, Lines};
use crate::narrow::Places;
use crate::search::KeywordReader;
use crate::{
    DOC_NO, Fields, KEYWORDS_FAILED, KeywordDocument, damaged, from_tantivy, language, schema, unusable,
};
use trove_core::domain::Language;
use trove_core::error::{Error, Result};
use trove_core::private;

/// What an index was made with; another payload in its last commit means that it is made anew. Raise the number
/// when the analysis or the fields change.
const FORMAT: &str = "trove keywords 4";
/// Memory of a writer, the least that tantivy takes: it is filled only where much is written at once.
const WRITER_BYTES: usize = 15_000_000;
/// Entries below which segments count as of one size.
const SMALLEST_LAYER: u32 = 500;
/// Segments of one size that are merged; each search looks into every segment.
const SEGMENTS_OF_A_LAYER: usize = 6;
/// Sizes within this factor, as a power of two, are of one layer.
const LAYER_LOG_SIZE: f64 = 1.5;
/// Share of deleted entries from which on a segment is written anew.
const MOST_DELETED: f32 = 0.33;

/// What is left to do after a round of upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing.
    Done,
    /// Segments are being merged in the background.
    Merging,
}

/// An open index. Changes are there for readers after a commit.
pub struct KeywordIndex {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    language: Language,
    places: Places,
    /// One for each language of the documents that came since the writer was opened.
    analyzers: HashMap<Language, Analyzer>,
    writer: Option<IndexWriter>,
    merging: Option<FutureResult<Option<SegmentMeta>>>,
}

impl KeywordIndex {
    /// Opens the index of a directory and reads all of it to compare checksums; makes one where there is none.
    ///
    /// # Errors
    /// `KEYWORDS_DAMAGED` where it is damaged, of another version or in another language:
    /// [`KeywordIndex::create`] starts anew.
    pub fn open(dir: &Path, language: Language) -> Result<Self> {
        if !dir.is_dir() {
            return Self::create(dir, language);
        }
        // tantivy panics on some damaged files.
        catch_unwind(|| Self::open_checked(dir, language))
            .unwrap_or_else(|_| Err(damaged("reading it panicked")))
    }

    fn open_checked(dir: &Path, language: Language) -> Result<Self> {
        let index = Index::open_in_dir(dir).map_err(unusable)?;
        let metas = index.load_metas().map_err(unusable)?;
        let (expected, fields) = schema();
        if metas.payload != Some(format_of(language)) || index.schema() != expected {
            return Err(damaged("another version made it, or it is in another language"));
        }
        let wrong = index.validate_checksum().map_err(unusable)?;
        if let Some(file) = wrong.iter().min() {
            return Err(damaged(&format!("{} does not match its checksum", file.display())));
        }
        Self::with(index, fields, language)
    }

    /// Makes an empty index in place of whatever the directory holds.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn create(dir: &Path, language: Language) -> Result<Self> {
        let failed = |e: std::io::Error| from_tantivy(e.into());
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(failed)?;
        }
        private::create_dir_all(dir).map_err(failed)?;
        let (schema, fields) = schema();
        let index = Index::create_in_dir(dir, schema).map_err(from_tantivy)?;
        let mut new = Self::with(index, fields, language)?;
        new.commit()?;
        Ok(new)
    }

    fn with(index: Index, fields: Fields, language: Language) -> Result<Self> {
        index.tokenizers().register(LINES, Lines::analyzer());
        let reader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(from_tantivy)?;
        let places = Places::default();
        let analyzers = HashMap::new();
        Ok(Self { index, reader, fields, language, places, analyzers, writer: None, merging: None })
    }

    /// What searches; it sees each commit.
    pub fn reader(&self) -> KeywordReader {
        KeywordReader::new(self.reader.clone(), self.fields, self.language, self.places.clone())
    }

    /// Numbers of the documents that have entries, as of the last commit.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn documents(&self) -> Result<RoaringBitmap> {
        let mut numbers = RoaringBitmap::new();
        for segment in self.reader.searcher().segment_readers() {
            let column =
                segment.fast_fields().column_first_or_default::<u64>(DOC_NO).map_err(from_tantivy)?;
            numbers.extend(segment.doc_ids_alive().map(|entry| column.get_val(entry) as u32));
        }
        Ok(numbers)
    }

    /// Adds a document's passages.
    ///
    /// # Errors
    /// Whatever the disk gives; nothing since the last commit counts then.
    pub fn add(&mut self, doc_no: u32, document: &KeywordDocument) -> Result<()> {
        let fields = self.fields;
        let language = self.language_of(document);
        let mut analyzer = self.analyzers.remove(&language).unwrap_or_else(|| Analyzer::new(language));
        let (mut terms, mut title) = (Terms::default(), Terms::default());
        analyzer.index(&document.title, &mut title);
        let writer = self.writer()?;
        for passage in &document.passages {
            let mut entry = TantivyDocument::default();
            let mut add = |field, terms: &str| {
                if !terms.is_empty() {
                    entry.add_text(field, terms);
                }
            };
            terms.clear();
            passage.headings.iter().for_each(|heading| analyzer.index(heading, &mut terms));
            add(fields.headings, &terms.words);
            terms.words.clear();
            analyzer.index(&passage.text, &mut terms);
            add(fields.text, &terms.words);
            add(fields.title, &title.words);
            terms.forms.push_str(&title.forms);
            add(fields.forms, &terms.forms);
            terms.signs.push_str(&title.signs);
            add(fields.signs, &terms.signs);
            add(fields.language, language.name());
            entry.add_u64(fields.point, passage.point);
            entry.add_u64(fields.doc_no, u64::from(doc_no));
            writer.add_document(entry).map_err(from_tantivy)?;
        }
        self.analyzers.insert(language, analyzer);
        Ok(())
    }

    /// The language that a document's words are analyzed in.
    fn language_of(&self, document: &KeywordDocument) -> Language {
        match (document.language, self.language) {
            (Some(named), _) => named,
            (None, Language::Auto) => {
                let mut text = document.title.clone();
                for passage in &document.passages {
                    if text.len() >= language::SAMPLE {
                        break;
                    }
                    text.push('\n');
                    text.push_str(&passage.text);
                }
                language::detect(&text)
            }
            (None, language) => language,
        }
    }

    /// Removes a document's passages.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn remove(&mut self, doc_no: u32) -> Result<()> {
        let term = Term::from_field_u64(self.fields.doc_no, u64::from(doc_no));
        self.writer()?.delete_term(term);
        Ok(())
    }

    /// Makes the changes durable and lets readers see them.
    ///
    /// # Errors
    /// Whatever the disk gives; the changes are lost then, and the index should be opened anew.
    pub fn commit(&mut self) -> Result<()> {
        let language = self.language;
        let mut commit = self.writer()?.prepare_commit().map_err(from_tantivy)?;
        commit.set_payload(&format_of(language));
        commit.commit().map_err(from_tantivy)?;
        self.reader.reload().map_err(from_tantivy)
    }

    /// Looks whether a merge has ended, and begins one where it is due.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn maintain(&mut self) -> Result<Upkeep> {
        if self.poll_merge()? == Upkeep::Merging {
            return Ok(Upkeep::Merging);
        }
        let segments = self.index.searchable_segment_metas().map_err(from_tantivy)?;
        let Some(due) = merge_policy().compute_merge_candidates(&segments).into_iter().next() else {
            return Ok(Upkeep::Done);
        };
        self.merging = Some(self.writer()?.merge(&due.0));
        Ok(Upkeep::Merging)
    }

    /// Looks whether a merge goes on.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn poll_merge(&mut self) -> Result<Upkeep> {
        let Some(merging) = &mut self.merging else { return Ok(Upkeep::Done) };
        let Some(merged) = merging.now_or_never() else { return Ok(Upkeep::Merging) };
        self.merging = None;
        match merged {
            // All of a segment was removed meanwhile, and it is gone. The others stay as they were.
            Err(TantivyError::InvalidArgument(error)) => tracing::debug!(error, "a merge was given up"),
            merged => drop(merged.map_err(from_tantivy)?),
        }
        self.reader.reload().map_err(from_tantivy)?;
        Ok(Upkeep::Done)
    }

    /// Begins to merge all segments into one without what was removed. Done where they are just so. No merge may go
    /// on.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn merge_all(&mut self) -> Result<Upkeep> {
        let segments = self.index.searchable_segment_metas().map_err(from_tantivy)?;
        if segments.len() < 2 && segments.iter().all(|segment| segment.num_deleted_docs() == 0) {
            return Ok(Upkeep::Done);
        }
        let ids: Vec<_> = segments.iter().map(SegmentMeta::id).collect();
        self.merging = Some(self.writer()?.merge(&ids));
        Ok(Upkeep::Merging)
    }

    /// Deletes the files that no segment in use needs.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn collect_garbage(&mut self) -> Result<()> {
        self.writer()?.garbage_collect_files().wait().map(drop).map_err(from_tantivy)
    }

    /// Gives the writer's memory and threads back; the next change opens another. Nothing may be uncommitted
    /// or merging.
    pub fn close_writer(&mut self) {
        self.writer = None;
        self.analyzers = HashMap::new();
    }

    /// Whether a writer is open.
    pub fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    /// Segments that a search looks into.
    pub fn segments(&self) -> usize {
        self.reader.searcher().segment_readers().len()
    }

    fn writer(&mut self) -> Result<&mut IndexWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let options = IndexWriterOptions::builder()
                    .memory_budget_per_thread(WRITER_BYTES)
                    .num_worker_threads(1)
                    .num_merge_threads(1)
                    .build();
                let writer: IndexWriter = self.index.writer_with_options(options).map_err(from_tantivy)?;
                // Merges are begun by `maintain` alone, so that it is known when a writer can be closed.
                writer.set_merge_policy(Box::new(NoMergePolicy));
                // A crash in the middle of a commit leaves files that the same commit, done again, would fail on.
                writer.garbage_collect_files().wait().map_err(from_tantivy)?;
                writer
            }
        };
        Ok(self.writer.insert(writer))
    }
}

/// What the last commit of an index says of how it was made.
fn format_of(language: Language) -> String {
    format!("{FORMAT} {language}")
}

fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_min_num_segments(SEGMENTS_OF_A_LAYER);
    policy.set_min_layer_size(SMALLEST_LAYER);
    policy.set_level_log_size(LAYER_LOG_SIZE);
    policy.set_del_docs_ratio_before_merge(MOST_DELETED);
    policy
}

/// Deletes the indexes below a folder whose collections are gone.
///
/// # Errors
/// Whatever the disk gives.
pub fn remove_others(folder: &Path, keep: impl Fn(&str) -> bool) -> Result<()> {
    let failed = |e: std::io::Error| {
        let other = || Error::internal(KEYWORDS_FAILED, format!("{} can't be tidied: {e}", folder.display()));
        Error::of_want(&e).unwrap_or_else(other)
    };
    if !folder.is_dir() {
        return Ok(());
    }
    let gone: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !path.file_name().and_then(|name| name.to_str()).is_some_and(&keep))
        .collect();
    gone.iter().try_for_each(|path| fs::remove_dir_all(path).map_err(failed))
}
