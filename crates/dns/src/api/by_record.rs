//! Changes of an API that knows records, and no sets of them.
//!
//! New ones come before old ones go, and the mark comes last: whoever stops in between leaves a zone that the next look puts
//! right.

use super::{Row, SeenRows};
use crate::plan::SetChange;
use mail_failover_core::model::{DnsData, DnsRecordType};

/// Change of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordChange<'a> {
    Create(&'a DnsData),
    Replace(&'a Row, &'a DnsData),
    Delete(&'a Row),
}

/// The changes that lead from what was seen to a record set.
pub(super) fn record_changes<'a>(change: &'a SetChange, seen: &'a SeenRows) -> Vec<RecordChange<'a>> {
    let SetChange { name, record_type, ttl, data } = change;
    let kept: Vec<_> = seen
        .of(name, *record_type)
        .filter(|row| row.ttl == *ttl && row.data.as_ref().is_some_and(|present| data.contains(present)))
        .collect();
    let gone = seen.of(name, *record_type).filter(|row| !kept.contains(row));
    let mut new = data.iter().filter(|one| !kept.iter().any(|row| row.data.as_ref() == Some(one)));
    // A name with a CNAME has nothing else, so that the one that is there is changed.
    if *record_type == DnsRecordType::Cname {
        let mut changes = vec![];
        for row in gone {
            changes.push(new.next().map_or(RecordChange::Delete(row), |one| RecordChange::Replace(row, one)));
        }
        changes.extend(new.map(RecordChange::Create));
        return changes;
    }
    new.map(RecordChange::Create).chain(gone.map(RecordChange::Delete)).collect()
}
