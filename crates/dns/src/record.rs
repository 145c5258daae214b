//! Records between the domain's types and those of the wire.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use mail_failover_core::model::{DnsData, DnsRecordType};

/// Longest string in a TXT record, in bytes (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// Error of a text that is no name of the wire, which a checked name always is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no DNS name")]
pub struct NoDnsName(pub String);

/// The absolute name of a text.
///
/// # Errors
/// [`NoDnsName`] for a text that is none.
pub fn wire_name(text: &str) -> Result<Name, NoDnsName> {
    let mut name = Name::from_ascii(text).map_err(|_| NoDnsName(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// A name as text: in lower case, without a dot at the end.
pub fn name_text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map_or(text.clone(), str::to_owned)
}

/// The type of the wire.
pub fn wire_type(record_type: DnsRecordType) -> RecordType {
    match record_type {
        DnsRecordType::A => RecordType::A,
        DnsRecordType::Aaaa => RecordType::AAAA,
        DnsRecordType::Cname => RecordType::CNAME,
        DnsRecordType::Mx => RecordType::MX,
        DnsRecordType::Txt => RecordType::TXT,
    }
}

/// The data of the wire.
///
/// # Errors
/// [`NoDnsName`] for a name in it that is none.
pub fn wire_data(data: &DnsData) -> Result<RData, NoDnsName> {
    Ok(match data {
        DnsData::A(address) => RData::A(A(*address)),
        DnsData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        DnsData::Cname(target) => RData::CNAME(CNAME(wire_name(target)?)),
        DnsData::Mx(preference, host) => RData::MX(MX::new(*preference, wire_name(host)?)),
        DnsData::Txt(text) => RData::TXT(TXT::from_bytes(text.as_bytes().chunks(MAX_STRING).collect())),
    })
}

/// The data of a record; `None` for a type that is never led.
pub fn data(record: &Record) -> Option<DnsData> {
    let data = &record.data;
    if let RData::A(address) = data {
        Some(DnsData::A(address.0))
    } else if let RData::AAAA(address) = data {
        Some(DnsData::Aaaa(address.0))
    } else if let RData::CNAME(target) = data {
        Some(DnsData::Cname(name_text(&target.0).into()))
    } else if let RData::MX(mx) = data {
        Some(DnsData::Mx(mx.preference, name_text(&mx.exchange).into()))
    } else {
        text(record).map(|text| DnsData::Txt(text.into()))
    }
}

/// The strings of a TXT record, joined; `None` for another record.
pub fn text(record: &Record) -> Option<String> {
    let RData::TXT(txt) = &record.data else { return None };
    Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_after_a_way_over_the_wire() {
        let long = "x".repeat(600);
        for (record_type, text) in [
            (DnsRecordType::A, "192.0.2.1"),
            (DnsRecordType::Aaaa, "2001:db8::1"),
            (DnsRecordType::Cname, "u1.wl.esp.example"),
            (DnsRecordType::Mx, "10 mx.esp.example"),
            (DnsRecordType::Txt, "v=spf1 -all"),
            (DnsRecordType::Txt, &long),
        ] {
            let given = DnsData::parse(record_type, text).unwrap();
            let wire = wire_data(&given).unwrap();
            assert_eq!(wire.record_type(), wire_type(record_type));
            let record = Record::from_rdata(wire_name("a.example").unwrap(), 60, wire);
            assert_eq!(data(&record), Some(given));
        }
    }

    #[test]
    fn names_are_absolute_on_the_wire_and_bare_as_text() {
        let name = wire_name("_Dmarc.Shop.example").unwrap();
        assert!(name.is_fqdn());
        assert_eq!(name_text(&name), "_dmarc.shop.example");
        assert!(wire_name("a..b").is_err());
    }
}
