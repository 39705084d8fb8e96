use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::ExportArgs;
use super::format::{End, Header, Whole, line};
use crate::cli::client::Client;
use crate::cli::{damage, filter, output};
use crate::proto::ExportDocumentsRequest;
use crate::proto::export_documents_response::Part;
use crate::visible::visible_json;

/// Where the lines go. A file gets its name when it is whole, and is deleted otherwise.
struct Target {
    writer: Box<dyn Write>,
    files: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn open(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            return Ok(Self { writer: Box::new(BufWriter::new(io::stdout())), files: None });
        };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".tmp");
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished).with_context(|| format!("writing {}", unfinished.display()))?;
        let writer = Box::new(BufWriter::new(file));
        Ok(Self { writer, files: Some((unfinished, path.to_owned())) })
    }

    fn line(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.writer, "{}", visible_json(line))?)
    }

    fn finish(mut self) -> Result<()> {
        self.writer.flush()?;
        let Some((unfinished, path)) = &self.files else { return Ok(()) };
        File::open(unfinished)?.sync_all()?;
        fs::rename(unfinished, path)?;
        self.files = None;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((unfinished, _)) = &self.files {
            // Nobody is interested in half of it.
            let _ = fs::remove_file(unfinished);
        }
    }
}

/// Writes a collection as JSON Lines.
pub async fn run(client: &Client, json: bool, args: ExportArgs) -> Result<i32> {
    let filter = filter::parse(&args.filters)?;
    let request = ExportDocumentsRequest { collection: args.collection.clone(), filter };
    let mut stream = client.documents().export_documents(request).await?.into_inner();
    let cut_off = || anyhow!("the server ended the export before it was complete");
    let Some(Part::Collection(collection)) = stream.message().await?.and_then(|m| m.part) else {
        return Err(cut_off());
    };
    let mut target = Target::open(args.file.as_deref())?;
    target.line(&serde_json::to_string(&Header::new(&collection))?)?;
    let mut documents = 0;
    let mut whole: Option<Whole> = None;
    let mut damaged = Vec::new();
    while let Some(message) = stream.message().await? {
        match (message.part, &mut whole) {
            (Some(Part::Document(stored)), None) => whole = Some(Whole { stored, ..Whole::default() }),
            (Some(Part::Text(text)), Some(whole)) => whole.text.push_str(&text),
            (Some(Part::Passages(list)), Some(whole)) => whole.passages.extend(list.passages),
            (Some(Part::Damaged(document)), _) => {
                // What has come of it is void.
                whole = None;
                damaged.push(document);
            }
            _ => return Err(anyhow!("the server sent parts of an export out of order")),
        }
        if let Some(complete) = whole.take_if(|whole| whole.is_complete()) {
            target.line(&line(&complete)?)?;
            documents += 1;
        }
    }
    if whole.is_some() {
        return Err(cut_off());
    }
    target.line(&serde_json::to_string(&End { documents })?)?;
    let is_file = target.files.is_some();
    target.finish()?;
    if is_file && json {
        let left_out: Vec<&str> = damaged.iter().map(|document| document.document_id.as_str()).collect();
        output::print_json(
            &json!({"exported": args.collection, "documents": documents, "left_out": left_out}),
        )?;
    } else if is_file {
        output::line(format!("exported {documents} documents of {}", args.collection))?;
    }
    Ok(damage::documents(&damaged, "is not in the export"))
}
