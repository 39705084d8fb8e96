//! Metadata values in the order of what they stand for.

use std::cmp::Ordering;

use super::MetadataValue;

/// 2 to the power of 63, from which on no `i64` reaches.
const BEYOND_INT: f64 = 9_223_372_036_854_775_808.0;
const NANOS: i64 = 1_000_000_000;

/// A number by its value: an integer and a floating-point number of the same value are equal, and are told
/// apart from all others without rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(Kind);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Int(i64),
    /// Not a whole number, or one that is beyond `i64`.
    Double(f64),
}

impl Number {
    /// An integer.
    pub fn from_int(value: i64) -> Self {
        Self(Kind::Int(value))
    }

    /// A floating-point number; `None` where it is NaN.
    pub fn from_double(value: f64) -> Option<Self> {
        if value.is_nan() {
            return None;
        }
        let is_int = value.fract() == 0.0 && (-BEYOND_INT..BEYOND_INT).contains(&value);
        Some(Self(if is_int { Kind::Int(value as i64) } else { Kind::Double(value) }))
    }

    /// The numbers of a value: its own, or the members of a list of numbers.
    pub fn all_of(value: &MetadataValue) -> impl Iterator<Item = Self> {
        let (ints, doubles): (&[i64], &[f64]) = match value {
            MetadataValue::IntList(list) => (list, &[]),
            MetadataValue::DoubleList(list) => (&[], list),
            _ => (&[], &[]),
        };
        let members = ints.iter().map(|int| Self::from_int(*int));
        Self::of(value).into_iter().chain(members).chain(doubles.iter().filter_map(|d| Self::from_double(*d)))
    }

    /// Bytes that are the same for equal numbers alone.
    pub fn to_bytes(self) -> [u8; 9] {
        let (kind, value) = match self.0 {
            Kind::Int(int) => (0, int.to_le_bytes()),
            Kind::Double(double) => (1, double.to_bits().to_le_bytes()),
        };
        let mut bytes = [kind; 9];
        bytes.iter_mut().zip(value).for_each(|(byte, of)| *byte = of);
        bytes
    }

    /// The number of a value; `None` where it is none.
    pub fn of(value: &MetadataValue) -> Option<Self> {
        match value {
            MetadataValue::Int(i) => Some(Self::from_int(*i)),
            MetadataValue::Double(d) => Self::from_double(*d),
            _ => None,
        }
    }
}

impl Eq for Number {}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        // A double that stands beside an integer is never equal to it.
        let with_double = |i: i64, d: f64| {
            let is_less = d >= BEYOND_INT || (d >= -BEYOND_INT && i <= d.floor() as i64);
            if is_less { Ordering::Less } else { Ordering::Greater }
        };
        match (self.0, other.0) {
            (Kind::Int(a), Kind::Int(b)) => a.cmp(&b),
            (Kind::Double(a), Kind::Double(b)) => a.total_cmp(&b),
            (Kind::Int(i), Kind::Double(d)) => with_double(i, d),
            (Kind::Double(d), Kind::Int(i)) => with_double(i, d).reverse(),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    seconds: i64,
    nanos: u32,
}

impl Time {
    /// From seconds and nanoseconds since 1970, however many nanoseconds they are.
    pub fn new(seconds: i64, nanos: i32) -> Self {
        let nanos = i64::from(nanos);
        let seconds = seconds.saturating_add(nanos.div_euclid(NANOS));
        Self { seconds, nanos: nanos.rem_euclid(NANOS) as u32 }
    }

    /// From seconds since 1970; `None` where they are NaN.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        if seconds.is_nan() {
            return None;
        }
        let whole = seconds.floor();
        let nanos = ((seconds - whole) * NANOS as f64).round() as i32;
        Some(Self::new(whole as i64, nanos))
    }

    /// The time of a value; `None` where it is none.
    pub fn of(value: &MetadataValue) -> Option<Self> {
        match value {
            MetadataValue::Timestamp(seconds, nanos) => Some(Self::new(*seconds, *nanos)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn double(value: f64) -> Number {
        Number::from_double(value).unwrap()
    }

    #[test]
    fn numbers_compare_by_value_without_rounding() {
        assert_eq!(double(-0.0), Number::from_int(0));
        assert_eq!(double(2021.0), Number::from_int(2021));
        let large = (1i64 << 53) + 1;
        assert!(Number::from_int(large) > double((1i64 << 53) as f64));
        assert!(Number::from_int(i64::MAX) < double(BEYOND_INT));
        assert_eq!(Number::from_int(i64::MIN), double(-BEYOND_INT));
        assert!(double(f64::NEG_INFINITY) < Number::from_int(i64::MIN));
        assert!(double(1.5) > Number::from_int(1) && double(-1.5) < Number::from_int(-1));
        assert_eq!(Number::from_double(f64::NAN), None);
    }

    #[test]
    fn times_are_normalised() {
        assert_eq!(Time::new(1, -1), Time::new(0, 999_999_999));
        assert_eq!(Time::from_seconds(-0.5), Some(Time::new(-1, 500_000_000)));
        assert_eq!(Time::from_seconds(0.999_999_999_9), Some(Time::new(1, 0)));
        assert_eq!(Time::from_seconds(f64::NAN), None);
        assert!(Time::from_seconds(f64::INFINITY) > Time::from_seconds(1e300_f64.ln()));
    }

    proptest! {
        #[test]
        fn small_numbers_sort_as_doubles_do(a in -1000i64..1000, b in -1000.0f64..1000.0) {
            let expected = (a as f64).partial_cmp(&b).unwrap();
            prop_assert_eq!(Number::from_int(a).cmp(&double(b)), expected);
            prop_assert_eq!(double(b).cmp(&Number::from_int(a)), expected.reverse());
        }

        #[test]
        fn the_order_is_total(values in proptest::collection::vec(
            prop_oneof![any::<i64>().prop_map(Number::from_int), any::<f64>().prop_filter_map("NaN", Number::from_double)], 3)
        ) {
            let mut sorted = values.clone();
            sorted.sort();
            prop_assert!(sorted[0] <= sorted[1] && sorted[1] <= sorted[2] && sorted[0] <= sorted[2]);
        }
    }
}
