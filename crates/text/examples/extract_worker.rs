//! The worker that extracts documents, without the rest of the program: `extract_worker extract-worker MEDIA_TYPE BYTES`
//! reads a file from standard input and writes its text as JSON. scripts/pdf_words.py and tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, media_type, bytes] = arguments.as_slice() else { return ExitCode::FAILURE };
    let Ok(bytes) = bytes.parse() else { return ExitCode::FAILURE };
    if command != "extract-worker" {
        return ExitCode::FAILURE;
    }
    ExitCode::from(trove_text::extract::worker_main(media_type, bytes) as u8)
}
