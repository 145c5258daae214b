//! Data of records as zone files have them (RFC 1035 §5.1), and as most APIs take and show them.

use super::ApiError;
use mail_failover_core::model::{DnsData, DnsRecordType};

/// Longest string in a TXT record, in bytes (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// The data of a record, names with a dot at the end.
///
/// # Errors
/// [`ApiError::NotAscii`] for a text with other letters.
pub(super) fn written(data: &DnsData) -> Result<String, ApiError> {
    Ok(match data {
        DnsData::A(_) | DnsData::Aaaa(_) => data.to_string(),
        DnsData::Cname(target) => format!("{target}."),
        DnsData::Mx(preference, host) => format!("{preference} {host}."),
        DnsData::Txt(text) => quoted(text)?,
    })
}

/// A text in quotation marks, in as many strings as it takes.
pub(super) fn quoted(text: &str) -> Result<String, ApiError> {
    if !text.is_ascii() {
        return Err(ApiError::NotAscii(text.to_owned()));
    }
    let strings: Vec<_> = text.as_bytes().chunks(MAX_STRING).map(quoted_string).collect();
    Ok(strings.join(" "))
}

fn quoted_string(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            quoted.push('\\');
        }
        quoted.push(char::from(*byte));
    }
    quoted.push('"');
    quoted
}

/// Reads the data of a record of this type; `None` for a type that is never led, or a text that is none.
pub(super) fn read(record_type: &str, text: &str) -> Option<DnsData> {
    let record_type = led(record_type)?;
    match record_type {
        DnsRecordType::Txt => Some(DnsData::Txt(unquoted(text)?.into())),
        DnsRecordType::A | DnsRecordType::Aaaa | DnsRecordType::Cname | DnsRecordType::Mx => {
            DnsData::parse(record_type, text.trim()).ok()
        }
    }
}

/// The same where a host without a dot at the end lies below the zone.
pub(super) fn read_below(record_type: &str, text: &str, zone: &str) -> Option<DnsData> {
    let is_host = matches!(led(record_type), Some(DnsRecordType::Cname | DnsRecordType::Mx));
    if !is_host || text.trim_end().ends_with('.') {
        return read(record_type, text);
    }
    read(record_type, &format!("{}.{zone}.", text.trim_end()))
}

/// The type of this name; `None` if it is never led.
pub(super) fn led(record_type: &str) -> Option<DnsRecordType> {
    use DnsRecordType::{A, Aaaa, Cname, Mx, Txt};
    [A, Aaaa, Cname, Mx, Txt].into_iter().find(|known| known.as_str() == record_type)
}

/// Joins the strings of a TXT record (RFC 1035 §5.1); a text without quotation marks is one string.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let text = text.trim();
    if !text.starts_with('"') {
        return Some(text.to_owned());
    }
    let (mut bytes, mut rest) = (vec![], text.bytes());
    let mut is_inside = false;
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => is_inside = !is_inside,
            b'\\' if is_inside => match rest.next()? {
                first if first.is_ascii_digit() => {
                    let (second, third) = (rest.next()?, rest.next()?);
                    let digits = [first, second, third];
                    bytes.push(std::str::from_utf8(&digits).ok()?.parse().ok()?);
                }
                escaped => bytes.push(escaped),
            },
            byte if is_inside => bytes.push(byte),
            byte if byte.is_ascii_whitespace() => {}
            _ => return None,
        }
    }
    (!is_inside).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_after_it_was_written_and_read() {
        let long = format!("v=spf1 {}", "include:x.example ".repeat(30));
        for (record_type, text, expected) in [
            (DnsRecordType::Mx, "10 mx.esp.example", Some("10 mx.esp.example.")),
            (DnsRecordType::Cname, "u1.esp.example", Some("u1.esp.example.")),
            (DnsRecordType::A, "192.0.2.1", Some("192.0.2.1")),
            (DnsRecordType::Aaaa, "2001:db8::1", Some("2001:db8::1")),
            (DnsRecordType::Txt, r#"say "hi" \o/"#, Some(r#""say \"hi\" \\o/""#)),
            (DnsRecordType::Txt, &long, None),
        ] {
            let data = DnsData::parse(record_type, text).unwrap();
            let written = written(&data).unwrap();
            if let Some(expected) = expected {
                assert_eq!(written, expected);
            }
            assert_eq!(read(record_type.as_str(), &written), Some(data), "{written}");
        }
    }

    #[test]
    fn other_ways_to_write_a_text_are_read_as_well() {
        assert_eq!(unquoted("v=spf1 -all").as_deref(), Some("v=spf1 -all"));
        assert_eq!(unquoted(r#""a" "b""#).as_deref(), Some("ab"));
        assert_eq!(unquoted(r#""caf\195\169""#).as_deref(), Some("café"));
        assert_eq!(unquoted(r#""open"#), None);
        assert_eq!(read("SRV", "0 0 25 mx.example."), None);
        assert_eq!(read_below("MX", "10 mx", "shop.example"), Some(DnsData::Mx(10, "mx.shop.example".into())));
        assert_eq!(
            read_below("CNAME", "u1.esp.example.", "shop.example"),
            Some(DnsData::Cname("u1.esp.example".into()))
        );
        assert_eq!(read_below("TXT", "\"a\"", "shop.example"), Some(DnsData::Txt("a".into())));
        assert!(matches!(quoted("café"), Err(ApiError::NotAscii(_))));
    }
}
