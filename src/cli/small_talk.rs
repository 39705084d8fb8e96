//! Greetings and thanks in a chat, which no document answers.
//!
//! They are told apart here and not in the server: its answers are about documents, and a program that sends a text to be
//! answered means it. Only a line that is nothing but small talk is taken for it, so no question is lost.

/// What a line is, where it is no question.
const KINDS: [(&str, &[&str]); 3] = [
    (
        "You are welcome.",
        &[
            "thanks",
            "thank you",
            "many thanks",
            "thx",
            "cheers",
            "danke",
            "vielen dank",
            "merci",
            "gracias",
            "grazie",
            "obrigado",
            "obrigada",
        ],
    ),
    (
        "Hello. Ask me anything that your documents may answer.",
        &[
            "hi",
            "hello",
            "hey",
            "good morning",
            "good afternoon",
            "good evening",
            "hallo",
            "guten morgen",
            "guten tag",
            "guten abend",
            "bonjour",
            "bonsoir",
            "salut",
            "hola",
            "buenos dias",
            "buenos días",
            "ciao",
            "olá",
        ],
    ),
    (
        "Goodbye; /quit ends the chat.",
        &[
            "bye",
            "goodbye",
            "good bye",
            "see you",
            "good night",
            "tschüss",
            "auf wiedersehen",
            "au revoir",
            "adiós",
        ],
    ),
];

/// Words that may stand around it.
const AROUND: [&str; 34] = [
    "a",
    "again",
    "all",
    "and",
    "beaucoup",
    "but",
    "cool",
    "everyone",
    "excellent",
    "for",
    "fine",
    "good",
    "great",
    "help",
    "helpful",
    "it",
    "later",
    "lot",
    "me",
    "much",
    "mucho",
    "nice",
    "now",
    "ok",
    "okay",
    "perfect",
    "schön",
    "sehr",
    "so",
    "that",
    "the",
    "there",
    "very",
    "your",
];
/// Most words of such a line.
const MOST_WORDS: usize = 8;

/// An answer to a line that is a greeting, thanks or a farewell, and nothing else.
pub fn reply(line: &str) -> Option<&'static str> {
    if line.contains('?') {
        return None;
    }
    let lower = line.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() || words.len() > MOST_WORDS {
        return None;
    }
    KINDS
        .iter()
        .find(|(_, phrases)| phrases.iter().any(|phrase| is_around(&words, phrase)))
        .map(|(reply, _)| *reply)
}

/// Whether a phrase is among the words, and the others say nothing by themselves.
fn is_around(words: &[&str], phrase: &str) -> bool {
    let phrase: Vec<&str> = phrase.split(' ').collect();
    let fits = |at: usize| {
        let (before, rest) = words.split_at(at);
        let others = before.iter().chain(rest.iter().skip(phrase.len()));
        rest.starts_with(&phrase) && others.copied().all(|word| AROUND.contains(&word))
    };
    (0..words.len()).any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_talk_is_taken_for_it() {
        for (start, lines) in [
            (
                "You",
                &[
                    "thanks",
                    "Thank you!",
                    "ok, thanks a lot",
                    "Great, thank you very much",
                    "Danke schön",
                    "Merci beaucoup",
                ][..],
            ),
            ("Hello", &["Hi", "hello there!", "Good morning", "guten Tag", "¡Hola!"]),
            ("Goodbye", &["bye", "OK, see you later", "Tschüss"]),
        ] {
            for line in lines {
                assert!(
                    reply(line).is_some_and(|reply| reply.starts_with(start)),
                    "{line}: {:?}",
                    reply(line)
                );
            }
        }
        for question in [
            "",
            "...",
            "hello world in C",
            "thanks to whom was it founded",
            "hi?",
            "Why does a fax say hello",
            "good",
            "and the second",
            "thank you letters",
            "what is the meaning of danke",
            "ok, and the backups",
            "high",
        ] {
            assert_eq!(reply(question), None, "{question}");
        }
    }
}
