//! When a certificate expires: the one field of X.509 (RFC 5280, section 4.1) that is needed here. The certificates are
//! the operator's own, and rustls has checked them; a parser of all of X.509 would be a dozen more dependencies.

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the version, which is left out in version 1.
const VERSION: u8 = 0xa0;
/// What stands before the validity: serial number, algorithm, issuer.
const FIELDS_BEFORE: usize = 3;

/// Seconds since 1970 at which a certificate in DER expires; `None` where it is none.
pub(super) fn expire_time(certificate: &[u8]) -> Option<i64> {
    let (signed, _) = content(certificate, SEQUENCE)?;
    let (mut fields, _) = content(signed, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    for _ in 0..FIELDS_BEFORE {
        fields = element(fields)?.2;
    }
    let (validity, _) = content(fields, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    let digits = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    match tag {
        // Years of two digits end with 2049.
        UTC_TIME if digits.get(..2)? < "50" => seconds(&format!("20{digits}")),
        UTC_TIME => seconds(&format!("19{digits}")),
        GENERALIZED_TIME => seconds(digits),
        _ => None,
    }
}

/// The content of an element that must have a tag, and what follows it.
fn content(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Seconds since 1970 of `YYYYMMDDhhmmss`.
fn seconds(digits: &str) -> Option<i64> {
    if digits.len() != 14 {
        return None;
    }
    let number = |at: std::ops::Range<usize>| digits.get(at)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    // Days by the civil calendar: https://howardhinnant.github.io/date_algorithms.html#days_from_civil
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years.div_euclid(4) - years.div_euclid(100)
        + years.div_euclid(400)
        + (153 * months + 2) / 5
        + day
        - 1
        - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn dates_of_both_forms_are_read() {
        assert_eq!(expire_time(&made(2030, 1, 1)), Some(1_893_456_000));
        assert_eq!(expire_time(&made(2028, 2, 29)), Some(1_835_395_200));
        assert_eq!(expire_time(&made(2100, 3, 1)), Some(4_107_542_400));
        assert_eq!(seconds("19700101000000"), Some(0));
        assert_eq!(seconds("20001231235959"), Some(978_307_199));
    }

    proptest! {
        #[test]
        fn other_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..400, byte: u8) {
            expire_time(&bytes);
            let mut certificate = made(2030, 1, 1);
            let at = at % certificate.len();
            certificate[at] = byte;
            expire_time(&certificate);
            expire_time(&certificate[..at]);
        }
    }
}
