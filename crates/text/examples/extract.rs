//! Prints what extraction makes of a file, as JSON.
//!
//!     cargo run -p trove-text --example extract -- FILE [MEDIA_TYPE]

use std::error::Error;
use std::path::PathBuf;

use trove_text::extract::{extract, media_type_of};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("expected a file, got no argument")?);
    let bytes = std::fs::read(&path)?;
    let known = media_type_of(&path, &bytes).unwrap_or_default();
    let extracted = extract(&bytes, &arguments.next().unwrap_or_else(|| known.to_owned()))?;
    serde_json::to_writer(std::io::stdout().lock(), &extracted)?;
    Ok(())
}
