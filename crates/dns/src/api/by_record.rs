//! Changes of an API that knows records, and no sets of them.
//!
//! New ones come before old ones go, and the mark comes last, or first where there is none: whoever stops in between leaves a
//! zone that is still the route's, and the next look puts it right.

use super::{Row, SeenRows};
use crate::mark::is_mark;
use crate::plan::SetChange;
use mail_failover_core::model::{DnsData, DnsRecordType};

/// Change of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordChange<'a> {
    Create(&'a DnsData),
    Replace(&'a Row, &'a DnsData),
    Delete(&'a Row),
}

/// The changes in the order in which they are made.
// A mark that is new comes first: without it, half a change would be nobody's.
pub(super) fn in_order<'a>(changes: &'a [SetChange], seen: &SeenRows) -> Vec<&'a SetChange> {
    let is_new_mark = |one: &SetChange| is_mark(&one.name) && seen.of(&one.name, one.record_type).next().is_none();
    let (marks, rest): (Vec<_>, Vec<_>) = changes.iter().partition(|one| is_new_mark(one));
    marks.into_iter().chain(rest).collect()
}

/// The changes that lead from what was seen to a record set.
pub(super) fn record_changes<'a>(change: &'a SetChange, seen: &'a SeenRows) -> Vec<RecordChange<'a>> {
    let SetChange { name, record_type, ttl, data } = change;
    let mut kept: Vec<&Row> = vec![];
    for row in seen.of(name, *record_type) {
        let is_wanted = row.ttl == *ttl && row.data.as_ref().is_some_and(|present| data.contains(present));
        // A request that came late may have made a second copy, which goes.
        if is_wanted && kept.iter().all(|known| known.data != row.data) {
            kept.push(row);
        }
    }
    let is_kept = |row: &&Row| kept.iter().any(|known| known.id == row.id);
    let gone: Vec<_> = seen.of(name, *record_type).filter(|row| !is_kept(row)).collect();
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
    new.map(RecordChange::Create).chain(gone.into_iter().map(RecordChange::Delete)).collect()
}
