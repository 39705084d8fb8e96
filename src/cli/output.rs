//! Printing: tables, JSON, metadata values and filters.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::failure::Usage;
use crate::proto::metadata_value::Kind;
use crate::proto::{FieldCondition, Filter, FilterList, MetadataValue, StringList, field_condition, filter};

/// Prints one JSON value with a line break.
pub fn print_json(value: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a table with a header.
pub fn print_table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    println!("{table}");
}

/// A timestamp as RFC 3339 in UTC, to the second.
pub fn timestamp(value: &prost_types::Timestamp) -> String {
    value.to_string()
}

/// A metadata value as JSON.
pub fn metadata_json(value: &MetadataValue) -> Value {
    match &value.kind {
        None => Value::Null,
        Some(Kind::StringValue(v)) => json!(v),
        Some(Kind::IntValue(v)) => json!(v),
        Some(Kind::DoubleValue(v)) => json!(v),
        Some(Kind::BoolValue(v)) => json!(v),
        Some(Kind::TimestampValue(v)) => json!(timestamp(v)),
        Some(Kind::StringList(v)) => json!(v.values),
    }
}

/// A metadata map as JSON, keys in order.
pub fn metadata_map_json(map: &HashMap<String, MetadataValue>) -> Value {
    map.iter()
        .map(|(key, value)| (key.clone(), metadata_json(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A string metadata value.
pub fn string_value(value: impl Into<String>) -> MetadataValue {
    MetadataValue { kind: Some(Kind::StringValue(value.into())) }
}

/// A filter that matches documents with one of these ids.
pub fn ids_filter(ids: Vec<String>) -> Filter {
    Filter { node: Some(filter::Node::DocumentIds(StringList { values: ids })) }
}

/// Parses `key=value` arguments into a filter where all must hold; none gives no filter.
///
/// A value that reads as a boolean or a number also matches metadata of that type.
pub fn parse_filters(items: &[String]) -> Result<Option<Filter>> {
    if items.is_empty() {
        return Ok(None);
    }
    let filters = items.iter().map(|item| parse_filter(item)).collect::<Result<Vec<_>>>()?;
    Ok(Some(Filter { node: Some(filter::Node::All(FilterList { filters })) }))
}

fn parse_filter(item: &str) -> Result<Filter> {
    let (key, value) = item
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| anyhow!(Usage(format!("filter {item:?} is not KEY=VALUE"))))?;
    let mut kinds = vec![Kind::StringValue(value.to_owned())];
    if let Ok(v) = value.parse::<bool>() {
        kinds.push(Kind::BoolValue(v));
    }
    if let Ok(v) = value.parse::<i64>() {
        kinds.push(Kind::IntValue(v));
    } else if let Some(v) = value.parse::<f64>().ok().filter(|v| v.is_finite()) {
        kinds.push(Kind::DoubleValue(v));
    }
    let mut filters: Vec<Filter> = kinds.into_iter().map(|kind| equals(key, kind)).collect();
    if filters.len() == 1 {
        return Ok(filters.remove(0));
    }
    Ok(Filter { node: Some(filter::Node::Any(FilterList { filters })) })
}

fn equals(key: &str, kind: Kind) -> Filter {
    let test = field_condition::Test::Equals(MetadataValue { kind: Some(kind) });
    Filter { node: Some(filter::Node::Field(FieldCondition { key: key.to_owned(), test: Some(test) })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_need_a_key() {
        assert!(parse_filters(&["=x".to_owned()]).is_err());
        assert!(parse_filters(&["x".to_owned()]).is_err());
        assert!(matches!(parse_filters(&[]), Ok(None)));
    }

    #[test]
    fn numbers_match_both_types() -> Result<()> {
        let parsed = parse_filter("year=2020")?;
        let Some(filter::Node::Any(list)) = parsed.node else {
            return Err(anyhow!("expected any"));
        };
        assert_eq!(list.filters.len(), 2);
        Ok(())
    }
}
