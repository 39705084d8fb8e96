//! `trove search`.

use std::io::IsTerminal;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{SearchArgs, Unit};
use super::client::Client;
use super::documents::passage_json;
use super::tokenize::span_text;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::proto::{ByteSpan, SearchHit, SearchQuery, SearchRequest, SearchUnit, search_query};

/// Searches and prints the hits; finding nothing is exit code 1.
pub async fn run(client: &Client, json: bool, args: SearchArgs) -> Result<i32> {
    let query = match args.like {
        Some(id) => search_query::Query::DocumentId(id),
        None => search_query::Query::Text(args.query.unwrap_or_default()),
    };
    let request = SearchRequest {
        collection: args.collection,
        query: Some(SearchQuery { query: Some(query) }),
        limit: args.limit,
        filter: output::parse_filters(&args.filters)?,
        exact: args.exact,
        unit: unit(args.unit).into(),
        include_highlights: args.unit == Unit::Passage,
        ..Default::default()
    };
    let response = client.search().search(request).await?.into_inner();
    if json {
        output::print_json(&response.hits.iter().map(hit_json).collect::<Value>())?;
    } else {
        print_hits(&response.hits);
    }
    Ok(if response.hits.is_empty() { EXIT_FAILED } else { EXIT_OK })
}

fn unit(unit: Unit) -> SearchUnit {
    match unit {
        Unit::Passage => SearchUnit::Passage,
        Unit::Sentence => SearchUnit::Sentence,
        Unit::Document => SearchUnit::Document,
    }
}

fn hit_json(hit: &SearchHit) -> Value {
    let highlights: Vec<Value> = hit
        .highlights
        .iter()
        .map(
            |h| json!({"span": h.span.as_ref().map(|s| json!([s.start, s.end])), "similarity": h.similarity}),
        )
        .collect();
    json!({"score": hit.score, "passage": hit.passage.as_ref().map(passage_json),
        "metadata": output::metadata_map_json(&hit.metadata), "highlights": highlights})
}

fn print_hits(hits: &[SearchHit]) {
    if hits.is_empty() {
        println!("nothing found");
        return;
    }
    let bold = std::io::stdout().is_terminal();
    for (rank, hit) in hits.iter().enumerate() {
        let passage = hit.passage.clone().unwrap_or_default();
        let mut line = format!("{:>3}. {:.4}  {}", rank + 1, hit.score, passage.document_id);
        if !passage.headings.is_empty() {
            line.push_str(&format!("  {}", passage.headings.join(" > ")));
        }
        if let Some(page) = passage.page_number {
            line.push_str(&format!("  page {page}"));
        }
        if let Some(span) = &passage.span {
            line.push_str(&format!("  bytes {}", span_text(span)));
        }
        println!("{line}");
        let best = hit.highlights.first().and_then(|h| h.span);
        let text = if bold { emphasise(&passage.text, best.as_ref()) } else { passage.text.clone() };
        for row in text.lines().filter(|row| !row.trim().is_empty()) {
            println!("     {row}");
        }
        if let Some(sentence) =
            best.and_then(|s| passage.text.get(s.start as usize..s.end as usize)).filter(|_| !bold)
        {
            println!("     => {}", sentence.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        println!();
    }
}

/// Sets the span in bold with terminal codes; a span outside the text changes nothing.
fn emphasise(text: &str, span: Option<&ByteSpan>) -> String {
    let Some(span) = span else { return text.to_owned() };
    let (start, end) = (span.start as usize, span.end as usize);
    match (text.get(..start), text.get(start..end), text.get(end..)) {
        (Some(before), Some(inside), Some(after)) => format!("{before}\x1b[1m{inside}\x1b[0m{after}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emphasis_keeps_text() {
        let span = ByteSpan { start: 2, end: 4 };
        assert_eq!(emphasise("abcdef", Some(&span)), "ab\x1b[1mcd\x1b[0mef");
        assert_eq!(emphasise("é", Some(&ByteSpan { start: 1, end: 2 })), "é");
    }
}
