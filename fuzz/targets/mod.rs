//! What is fed: one target for each parser.

mod documents;
mod index;
mod models;
mod service;

use std::path::{Path, PathBuf};

/// A parser.
pub struct Target {
    pub name: &'static str,
    /// Runs it; what it parses must fit what it says of itself.
    pub check: fn(&[u8]),
    /// Valid inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub most_bytes: usize,
    /// Memory that it may take besides so much for each byte of the input.
    fixed_memory: usize,
    memory_per_byte: usize,
    /// Words of the format.
    pub words: &'static [&'static str],
}

impl Target {
    const fn new(name: &'static str, check: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, check, seeds, most_bytes: 4096, fixed_memory: 1 << 20, memory_per_byte: 256, words: &[] }
    }

    const fn bytes(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    const fn memory_of(self, fixed_memory: usize, memory_per_byte: usize) -> Self {
        Self { fixed_memory, memory_per_byte, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Memory that it may take for an input.
    pub fn memory(&self, input: usize) -> usize {
        self.fixed_memory + self.memory_per_byte * input
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target::new("gguf", models::gguf, models::gguf_seeds).memory_of(160 << 20, 256),
    Target::new("safetensors", models::safetensors, models::safetensors_seeds),
    Target::new("model_config", models::config, models::config_seeds).words(models::CONFIG_WORDS),
    Target::new("model_dir", models::dir, models::dir_seeds).words(models::DIR_WORDS),
    Target::new("onnx_graph", models::graph, models::graph_seeds),
    Target::new("tokenizer", models::tokenizer, models::tokenizer_seeds).words(models::TOKENIZER_WORDS),
    Target::new("chat_template", models::template, models::template_seeds)
        .memory_of(64 << 20, 256)
        .words(models::TEMPLATE_WORDS),
    Target::new("text", documents::text, documents::text_seeds),
    Target::new("markdown", documents::markdown, documents::markdown_seeds).words(documents::MARKDOWN_WORDS),
    Target::new("html", documents::html, documents::html_seeds)
        .memory_of(1 << 20, 2048)
        .words(documents::HTML_WORDS),
    Target::new("pdf", documents::pdf, documents::pdf_seeds)
        .memory_of(64 << 20, 1024)
        .words(documents::PDF_WORDS),
    Target::new("docx", documents::docx, documents::docx_seeds).memory_of(1 << 20, 2048),
    Target::new("docx_xml", documents::docx_xml, documents::docx_xml_seeds)
        .memory_of(1 << 20, 2048)
        .words(documents::DOCX_WORDS),
    Target::new("pptx", documents::pptx, documents::pptx_seeds)
        .memory_of(1 << 20, 2048)
        .words(documents::SLIDE_WORDS),
    Target::new("xlsx", documents::xlsx, documents::xlsx_seeds)
        .memory_of(4 << 20, 2048)
        .words(documents::SHEET_WORDS),
    // A row may be repeated up to the most cells of a sheet.
    Target::new("odf", documents::odf, documents::odf_seeds)
        .memory_of(512 << 20, 2048)
        .words(documents::ODF_WORDS),
    Target::new("epub", documents::epub, documents::epub_seeds)
        .memory_of(1 << 20, 4096)
        .words(documents::HTML_WORDS),
    Target::new("mail", documents::mail, documents::mail_seeds)
        .memory_of(1 << 20, 4096)
        .words(documents::MAIL_WORDS),
    Target::new("mailbox", documents::mailbox, documents::mailbox_seeds)
        .memory_of(1 << 20, 4096)
        .words(documents::MAIL_WORDS),
    Target::new("rtf", documents::rtf, documents::rtf_seeds).words(documents::RTF_WORDS),
    Target::new("notebook", documents::notebook, documents::notebook_seeds),
    Target::new("asciidoc", documents::asciidoc, documents::asciidoc_seeds).words(documents::MARKUP_WORDS),
    Target::new("rst", documents::rst, documents::rst_seeds).words(documents::MARKUP_WORDS),
    Target::new("org", documents::org, documents::org_seeds).words(documents::MARKUP_WORDS),
    Target::new("latex", documents::latex, documents::latex_seeds)
        .memory_of(1 << 20, 1024)
        .words(documents::MARKUP_WORDS),
    Target::new("extract_child", documents::child, documents::child_seeds).words(documents::PDF_WORDS),
    Target::new("passages", documents::passages, documents::text_seeds),
    Target::new("query_words", documents::query, documents::query_seeds).memory_of(4 << 20, 512),
    Target::new("request", service::request, service::request_seeds),
    Target::new("filter", service::filter, service::filter_seeds),
    Target::new("page_token", service::page_token, service::page_token_seeds).bytes(256),
    Target::new("export_line", service::export_line, service::export_line_seeds).words(service::EXPORT_WORDS),
    Target::new("key_file", service::key_file, service::key_file_seeds).words(service::KEY_WORDS),
    Target::new("config_file", service::config_file, service::config_file_seeds)
        .memory_of(4 << 20, 512)
        .words(service::SETTING_WORDS),
    Target::new("record", service::record, trove::store::fuzz::record_seeds),
    Target::new("snapshot", service::snapshot, service::snapshot_seeds).memory_of(4 << 20, 64),
    Target::new("snapshot_records", service::snapshot_records, service::snapshot_records_seeds)
        .memory_of(4 << 20, 64),
    Target::new("index_segment", index::segment, index::segment_seeds),
    Target::new("index_manifest", index::manifest, index::manifest_seeds),
];

/// A folder for files that live as long as one input; in memory where that is at hand.
pub fn temporary() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

/// A folder of this thread's own, made once.
fn with_folder<T>(work: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: tempfile::TempDir =
            tempfile::tempdir_in(temporary()).unwrap_or_else(|error| panic!("no temporary folder: {error}"));
    }
    FOLDER.with(|folder| work(folder.path()))
}

/// Writes a file of that folder.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
