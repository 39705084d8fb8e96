//! Ways for `fuzz/` to chat templates.

use super::options::{Message, Role};
use super::template::ChatTemplate;

/// Compiles a template and renders a conversation with it.
pub fn template(source: &str) {
    let Ok(template) = ChatTemplate::new(source.to_owned(), Some("<s>".to_owned()), Some("</s>".to_owned()))
    else {
        return;
    };
    let messages = [
        Message::new(Role::System, "Be short."),
        Message::new(Role::User, "Why?"),
        Message::new(Role::Assistant, "So."),
    ];
    let _ = template.render(&messages);
}
