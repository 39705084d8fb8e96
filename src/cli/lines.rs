//! The lines that somebody types, with editing and a history, or those of standard input; the only user of rustyline.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::state;

const PROMPT: &str = "> ";
/// Lines of the history that are kept.
const KEPT: usize = 1000;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// Ctrl-C instead of one.
    Interrupted,
    /// The end of the input.
    End,
}

/// Where lines come from.
pub struct Lines {
    /// On a terminal. It is away while a line is read.
    editor: Option<Editor<(), FileHistory>>,
    is_edited: bool,
    history: Option<PathBuf>,
}

impl Lines {
    /// From a terminal where there is one, with the history of earlier runs if it is to be kept.
    pub fn open(keep_history: bool) -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let config =
            Config::builder().max_history_size(KEPT).map(|config| config.auto_add_history(true).build());
        let editor = config.and_then(Editor::with_config).ok().filter(|_| is_terminal);
        let history = state::file("chat_history").filter(|_| keep_history && editor.is_some());
        let mut this = Self { is_edited: editor.is_some(), editor, history };
        if let (Some(editor), Some(path)) = (&mut this.editor, &this.history) {
            // There is none at first.
            let _ = editor.load_history(path);
        }
        this
    }

    /// Whether somebody types.
    pub fn is_edited(&self) -> bool {
        self.is_edited
    }

    /// The next line, read off the async threads.
    ///
    /// # Errors
    /// What the terminal or standard input fails with.
    pub async fn next(&mut self) -> Result<Line> {
        let Some(mut editor) = self.editor.take() else { return plain(self.is_edited).await };
        let history = self.history.clone();
        let read = move || {
            let line = editor.readline(PROMPT);
            if let (Ok(_), Some(path)) = (&line, &history) {
                // A history that cannot be kept is no reason to stop.
                let _ = state::make_folder(path)
                    .and_then(|()| editor.append_history(path).map_err(io::Error::other));
            }
            (editor, line)
        };
        let (editor, line) = tokio::task::spawn_blocking(read).await?;
        self.editor = Some(editor);
        match line {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// The next line of standard input.
async fn plain(is_edited: bool) -> Result<Line> {
    if is_edited {
        return Err(anyhow!("the terminal cannot be read any more"));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut input = String::new();
        io::stdin().lock().read_line(&mut input).map(|bytes| (bytes > 0).then_some(input))
    });
    Ok(read.await??.map_or(Line::End, Line::Text))
}
