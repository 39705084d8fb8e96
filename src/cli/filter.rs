//! Filters as people type them: `price<200`, `date>=2024-01-01`, `tags=harbour`.

use anyhow::{Result, anyhow};

use super::failure::Usage;
use super::output::{any, condition};
use crate::proto::field_condition::Test;
use crate::proto::metadata_value::Kind;
use crate::proto::{Filter, FilterList, MetadataValue, Range, StringRange, filter};
use crate::records::Moment;

/// How `--filter` is named in help texts.
pub const VALUE_NAME: &str = "CONDITION";

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Unequal};

/// Parses `KEY=VALUE`, `KEY!=VALUE`, `KEY<VALUE`, `KEY<=VALUE`, `KEY>VALUE` and `KEY>=VALUE` into a filter where all must
/// hold; none gives no filter.
///
/// A value that reads as a boolean or a number also equals metadata of that type, and a date equals all times of its day.
/// Numbers are compared with numbers, dates with times and with texts that are dates, other texts with texts.
///
/// # Errors
/// Wrong usage.
pub fn parse(items: &[String]) -> Result<Option<Filter>> {
    if items.is_empty() {
        return Ok(None);
    }
    let filters = items.iter().map(|item| parse_one(item)).collect::<Result<Vec<_>>>()?;
    Ok(Some(Filter { node: Some(filter::Node::All(FilterList { filters })) }))
}

fn parse_one(item: &str) -> Result<Filter> {
    let (key, operator, value) = split(item).ok_or_else(|| {
        let message =
            format!("--filter: expected KEY=VALUE, or !=, <, <=, > or >= instead of =, got {item:?}");
        anyhow!(Usage(message))
    })?;
    Ok(match operator {
        Equal => equal(key, value),
        Unequal => Filter { node: Some(filter::Node::Not(Box::new(equal(key, value)))) },
        operator => compared(key, operator, value),
    })
}

fn split(item: &str) -> Option<(&str, Operator, &str)> {
    let at = item.find("!=").into_iter().chain(item.find(['=', '<', '>'])).min()?;
    let (key, rest) = item.split_at_checked(at)?;
    let operators = [
        ("!=", Unequal),
        ("<=", LessOrEqual),
        (">=", GreaterOrEqual),
        ("=", Equal),
        ("<", Less),
        (">", Greater),
    ];
    let (sign, operator) = operators.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
    let value = rest.strip_prefix(sign)?;
    // "price < 200" is typed too; a text may have spaces around it.
    let value = if matches!(operator, Equal | Unequal) { value } else { value.trim() };
    Some((key.trim(), operator, value)).filter(|(key, _, _)| !key.is_empty())
}

fn equal(key: &str, value: &str) -> Filter {
    let mut kinds = vec![Kind::StringValue(value.to_owned())];
    if let Ok(v) = value.parse::<bool>() {
        kinds.push(Kind::BoolValue(v));
    }
    if let Ok(v) = value.parse::<i64>() {
        kinds.push(Kind::IntValue(v));
    } else if let Some(v) = value.parse::<f64>().ok().filter(|v| v.is_finite()) {
        kinds.push(Kind::DoubleValue(v));
    }
    let equals = |kind| condition(key, Test::Equals(MetadataValue { kind: Some(kind) }));
    let mut filters: Vec<Filter> = kinds.into_iter().map(equals).collect();
    if let Some(moment) = Moment::parse(value) {
        filters.push(condition(key, time_test(moment)));
    }
    if filters.len() == 1 {
        return filters.remove(0);
    }
    any(filters)
}

/// The times of a moment.
fn time_test(moment: Moment) -> Test {
    if moment.length == 0 {
        let time = prost_types::Timestamp { seconds: moment.seconds, nanos: moment.nanos };
        return Test::Equals(MetadataValue { kind: Some(Kind::TimestampValue(time)) });
    }
    let (start, end) = (moment.seconds as f64, (moment.seconds + moment.length) as f64);
    Test::Range(Range { gte: Some(start), lt: Some(end), ..Range::default() })
}

fn compared(key: &str, operator: Operator, value: &str) -> Filter {
    if let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) {
        return condition(key, Test::Range(range(operator, number, number)));
    }
    let Some(moment) = Moment::parse(value) else {
        return condition(key, Test::StringRange(string_range(operator, value.to_owned())));
    };
    let start = moment.seconds as f64 + f64::from(moment.nanos) / 1e9;
    let times = condition(key, Test::Range(range(operator, start, start + moment.length as f64)));
    // As text, what follows a day or a month is a part of it.
    let after = match operator {
        LessOrEqual | Greater if moment.length > 0 => format!("{value}\u{10ffff}"),
        _ => value.to_owned(),
    };
    any(vec![times, condition(key, Test::StringRange(string_range(operator, after)))])
}

/// What is before, after or within a span that starts and ends so; a number is a span of no length.
fn range(operator: Operator, start: f64, end: f64) -> Range {
    let is_span = end > start;
    match operator {
        Less => Range { lt: Some(start), ..Range::default() },
        LessOrEqual if is_span => Range { lt: Some(end), ..Range::default() },
        LessOrEqual => Range { lte: Some(end), ..Range::default() },
        Greater if is_span => Range { gte: Some(end), ..Range::default() },
        Greater => Range { gt: Some(end), ..Range::default() },
        _ => Range { gte: Some(start), ..Range::default() },
    }
}

fn string_range(operator: Operator, value: String) -> StringRange {
    match operator {
        Less => StringRange { lt: Some(value), ..StringRange::default() },
        LessOrEqual => StringRange { lte: Some(value), ..StringRange::default() },
        Greater => StringRange { gt: Some(value), ..StringRange::default() },
        _ => StringRange { gte: Some(value), ..StringRange::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Metadata, MetadataValue};
    use crate::grpc::convert::filter_in;

    /// Whether a document with this value under `k` passes.
    fn passes(item: &str, value: MetadataValue) -> bool {
        let filter = filter_in(parse(&[item.to_owned()]).unwrap()).unwrap().unwrap();
        filter.matches("id", &Metadata::from([("k".to_owned(), value)]))
    }

    #[test]
    fn filters_need_a_key_and_an_operator() {
        for bad in ["=x", "x", "", "<3", " =x"] {
            assert!(parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(matches!(parse(&[]), Ok(None)));
        assert_eq!(split("a<=b=c"), Some(("a", LessOrEqual, "b=c")));
        assert_eq!(split("a=b<c"), Some(("a", Equal, "b<c")));
        assert_eq!(split("a!=b"), Some(("a", Unequal, "b")));
        assert_eq!(split("price < 200"), Some(("price", Less, "200")));
    }

    #[test]
    fn numbers_are_compared_with_numbers() {
        for value in
            [MetadataValue::Int(199), MetadataValue::Double(199.5), MetadataValue::IntList(vec![300, 7])]
        {
            assert!(passes("k<200", value.clone()) && !passes("k>=301", value.clone()), "{value:?}");
        }
        assert!(passes("k<=200", MetadataValue::Int(200)) && !passes("k<200", MetadataValue::Int(200)));
        assert!(passes("k>1.5", MetadataValue::Int(2)) && !passes("k>2", MetadataValue::Double(2.0)));
        assert!(!passes("k<200", MetadataValue::String("1".to_owned())));
        assert!(passes("k=2021", MetadataValue::IntList(vec![2020, 2021])));
        assert!(passes("k=0.5", MetadataValue::DoubleList(vec![0.5])));
        assert!(passes("k!=3", MetadataValue::Int(4)) && !passes("k!=3", MetadataValue::Int(3)));
        assert!(passes("k=true", MetadataValue::Bool(true)));
    }

    #[test]
    fn dates_are_compared_with_times_and_with_texts() {
        let noon = |text: &str| {
            let moment = Moment::parse(text).unwrap();
            MetadataValue::Timestamp(moment.seconds, 0)
        };
        for value in [noon("2024-01-15T12:00"), MetadataValue::String("2024-01-15T12:00".to_owned())] {
            for holds in
                ["k>=2024-01-15", "k<=2024-01-15", "k<2024-01-16", "k>2024-01-14", "k>=2024-01", "k<=2024-01"]
            {
                assert!(passes(holds, value.clone()), "{holds} {value:?}");
            }
            for fails in ["k>2024-01-15", "k<2024-01-15", "k>=2024-01-16", "k>2024-01", "k<2024-01"] {
                assert!(!passes(fails, value.clone()), "{fails} {value:?}");
            }
        }
        assert!(
            passes("k=2024-01-15", noon("2024-01-15T12:00")) && !passes("k=2024-01-14", noon("2024-01-15"))
        );
        assert!(passes("k=2024-01-15T12:00Z", noon("2024-01-15T12:00")));
        assert!(passes("k>=m", MetadataValue::String("n".to_owned())));
        assert!(!passes("k<m", MetadataValue::StringList(vec!["n".to_owned()])));
    }
}
