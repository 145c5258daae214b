//! The change of a zone, from the records there: nothing, an update on a condition, or nothing because a record is
//! somebody else's.

use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::mark::{Mark, Owner, mark_name};
use super::record::{NoDnsName, data, text, wire_data, wire_name, wire_type};
use mail_failover_core::model::{DnsData, DnsOutput, DnsRecordSet, DnsRecordType};

/// A record set as a server has it, and its mark.
#[derive(Clone, Debug, Default)]
pub struct ObservedSet {
    /// The records.
    pub records: Vec<Record>,
    /// The TXT records where its mark stands.
    pub marks: Vec<Record>,
    /// Target of a CNAME at the name, other than the set itself.
    pub alias: Option<String>,
}

impl ObservedSet {
    /// The set without what a wildcard has put there: what a server also answers for names that do not exist, beside
    /// the set's and beside its mark's (RFC 4592 §2.2.1).
    // The zone itself decides: an update requires that what is absent here is absent there. No wildcard counts.
    #[must_use]
    pub fn without_wildcards(mut self, beside: &Self) -> Self {
        if is_same(&self.records, &beside.records) {
            self.records.clear();
        }
        if is_same(&self.marks, &beside.marks) {
            self.marks.clear();
        }
        if self.alias == beside.alias {
            self.alias = None;
        }
        self
    }
}

/// A name that does not exist, for which the same wildcard answers as for this one if that does not exist; `None` for
/// the zone itself, for which none does. `label` is one that nobody uses.
pub fn name_beside(name: &str, zone: &str, label: &str) -> Option<String> {
    let (_, parent) = name.split_once('.').filter(|_| name != zone)?;
    Some(format!("{label}.{parent}"))
}

/// An update of a zone, made only if the zone is as it was seen (RFC 2136 §2.4).
#[derive(Clone, Debug)]
pub struct Update {
    pub(crate) prerequisites: Vec<Record>,
    pub(crate) updates: Vec<Record>,
    changes: Vec<SetChange>,
    /// Records that it changes, for people.
    pub(crate) what: String,
}

/// A record set as it is to be, for providers that take no updates by RFC 2136.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// Owner's name.
    pub name: String,
    /// Type of the records.
    pub record_type: DnsRecordType,
    /// Time for which caches may keep a record, in seconds.
    pub ttl: u32,
    /// Data of the records; none if the set is to go.
    pub data: Vec<DnsData>,
}

impl Update {
    /// The record sets that change: each before its mark.
    pub fn changes(&self) -> &[SetChange] {
        &self.changes
    }
}

/// Action that leads a zone.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Every record is as it should be.
    InPlace,
    /// An update.
    Write(Update),
    /// Nothing: these records are somebody else's.
    Conflict(Vec<Conflict>),
}

/// A record set that is not the route's, and is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    name: String,
    record_type: DnsRecordType,
    reason: ConflictReason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ConflictReason {
    /// Another route's.
    Marked(Owner),
    /// Something else stands where the mark would.
    NoMark(String),
    /// Records of an unknown owner: the data.
    Foreign(String),
    /// The name is an alias.
    Alias(String),
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, record_type, reason } = self;
        let record_type = record_type.as_str();
        match reason {
            ConflictReason::Marked(owner) => write!(
                f,
                "{name} {record_type} belongs to {owner}; choose another name, or delete its mark {} TXT once nobody leads it any more",
                mark_name(name, self.record_type)
            ),
            ConflictReason::NoMark(text) => {
                write!(f, "{} TXT holds something else ({text}); delete it", mark_name(name, self.record_type))
            }
            ConflictReason::Foreign(data) => write!(
                f,
                "{name} {record_type} exists ({data}) and is not the operator's; change it to what this output would write for one of its backends, which is taken over, or delete it"
            ),
            ConflictReason::Alias(target) => write!(f, "{name} is an alias of {target}; delete the CNAME"),
        }
    }
}

/// Plans what leads a zone to a backend. `observed` has the sets of that backend in the same order.
///
/// # Errors
/// [`NoDnsName`], which a checked output never has.
// ADR-0140: The zone itself says whose a record is, and which write was the last.
pub fn plan(output: &DnsOutput, backend: &str, owner: &Owner, observed: &[ObservedSet]) -> Result<Plan, NoDnsName> {
    let sets = output.sets_of(backend).unwrap_or_default();
    let (mut conflicts, mut is_in_place, mut sequence) = (vec![], true, 0);
    for (index, (set, seen)) in sets.iter().zip(observed).enumerate() {
        match ownership(output, index, owner, seen) {
            Ok(mark) => {
                is_in_place &= seen.marks.len() == 1 && mark.is_some() && shows(set, output.ttl, seen);
                sequence = sequence.max(mark.map_or(0, |mark| mark.sequence));
            }
            Err(reason) => {
                conflicts.push(Conflict { name: set.name.to_string(), record_type: set.record_type, reason });
            }
        }
    }
    if !conflicts.is_empty() {
        return Ok(Plan::Conflict(conflicts));
    }
    if is_in_place {
        return Ok(Plan::InPlace);
    }
    let mark = Mark { owner: owner.clone(), sequence: sequence.saturating_add(1) };
    Ok(Plan::Write(update(sets, output.ttl, observed, &mark)?))
}

/// Returns true if a server answers with this record set.
pub fn shows(set: &DnsRecordSet, ttl: u32, seen: &ObservedSet) -> bool {
    let mut present: Vec<_> = seen.records.iter().filter_map(data).collect();
    present.sort();
    let mut wanted = set.data.clone();
    wanted.sort();
    present == wanted && seen.alias.is_none() && seen.records.iter().all(|record| record.ttl == ttl)
}

/// The data of records as text: `10 mx.example.com`.
pub fn told<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut data: Vec<_> = records.into_iter().filter_map(data).map(|data| data.to_string()).collect();
    data.sort();
    if data.is_empty() { "nothing".to_owned() } else { data.join(", ") }
}

/// Record sets as text: `MX 10 mx.example.com; em.example.com CNAME u1.example.com`. The name is left out where it is the
/// output's.
pub fn summary(output: &DnsOutput, backend: &str) -> String {
    let mut parts = vec![];
    for set in output.sets_of(backend).unwrap_or_default() {
        let data: Vec<_> = set.data.iter().map(ToString::to_string).collect();
        let data = if data.is_empty() { "none".to_owned() } else { data.join(", ") };
        let record_type = set.record_type.as_str();
        let is_own = set.name == output.name;
        parts.push(if is_own { format!("{record_type} {data}") } else { format!("{} {record_type} {data}", set.name) });
    }
    format!("{}; TTL {}", parts.join("; "), output.ttl)
}

/// Checks that a set is ours or may become so. Returns its mark; `None` if it has none yet.
fn ownership(
    output: &DnsOutput,
    index: usize,
    owner: &Owner,
    seen: &ObservedSet,
) -> Result<Option<Mark>, ConflictReason> {
    if let Some(target) = &seen.alias {
        return Err(ConflictReason::Alias(target.clone()));
    }
    // Where records change one by one, whoever stopped in between has left two marks: the latest counts.
    let mut latest: Option<Mark> = None;
    for text in seen.marks.iter().filter_map(text) {
        match Mark::parse(&text) {
            Some(mark) if mark.owner == *owner => {
                if latest.as_ref().is_none_or(|known| known.sequence < mark.sequence) {
                    latest = Some(mark);
                }
            }
            Some(mark) => return Err(ConflictReason::Marked(mark.owner)),
            None => return Err(ConflictReason::NoMark(text)),
        }
    }
    if latest.is_some() {
        return Ok(latest);
    }
    // A zone has its MX before it has an operator. To take over what says already what would be written overwrites
    // nothing.
    let mut candidates = output.backends.iter().filter_map(|records| records.sets.get(index));
    let is_adopted = candidates.any(|candidate| has_data(candidate, &seen.records));
    if seen.records.is_empty() || is_adopted {
        return Ok(None);
    }
    Err(ConflictReason::Foreign(told(&seen.records)))
}

/// Returns true if two sets of records have the same data.
fn is_same(one: &[Record], other: &[Record]) -> bool {
    let [mut one, mut other] = [one, other].map(|records| records.iter().map(data).collect::<Vec<_>>());
    one.sort();
    other.sort();
    one == other
}

fn has_data(set: &DnsRecordSet, records: &[Record]) -> bool {
    let mut present: Vec<Option<DnsData>> = records.iter().map(data).collect();
    present.sort();
    let mut wanted: Vec<_> = set.data.iter().cloned().map(Some).collect();
    wanted.sort();
    present == wanted
}

fn update(sets: &[DnsRecordSet], ttl: u32, observed: &[ObservedSet], mark: &Mark) -> Result<Update, NoDnsName> {
    let mark_data = wire_data(&DnsData::Txt(mark.to_string().into()))?;
    let (mut prerequisites, mut updates, mut changed, mut changes) = (vec![], vec![], vec![], vec![]);
    for (set, seen) in sets.iter().zip(observed) {
        let name = wire_name(&set.name)?;
        let record_type = wire_type(set.record_type);
        require(&mut prerequisites, &name, record_type, &seen.records);
        if !shows(set, ttl, seen) {
            let mut data = vec![];
            for one in &set.data {
                data.push(wire_data(one)?);
            }
            replace(&mut updates, &name, record_type, &seen.records, ttl, data);
            changed.push(format!("{} {}", set.name, set.record_type.as_str()));
            changes.push(SetChange {
                name: set.name.to_string(),
                record_type: set.record_type,
                ttl,
                data: set.data.clone(),
            });
        }
        let name = wire_name(&mark_name(&set.name, set.record_type))?;
        require(&mut prerequisites, &name, RecordType::TXT, &seen.marks);
        replace(&mut updates, &name, RecordType::TXT, &seen.marks, ttl, vec![mark_data.clone()]);
        let name = mark_name(&set.name, set.record_type);
        changed.push(format!("{name} TXT"));
        let data = vec![DnsData::Txt(mark.to_string().into())];
        changes.push(SetChange { name, record_type: DnsRecordType::Txt, ttl, data });
    }
    Ok(Update { prerequisites, updates, changes, what: changed.join(", ") })
}

/// Requires that a record set is still as it was seen (RFC 2136 §2.4.2, §2.4.3, §2.4.5).
fn require(prerequisites: &mut Vec<Record>, name: &Name, record_type: RecordType, seen: &[Record]) {
    if seen.is_empty() {
        // An alias allows nothing beside it, and a server ignores one silently where there is something (§3.4.2.2).
        let record_type = if record_type == RecordType::CNAME { RecordType::ANY } else { record_type };
        let mut absent = Record::update0(name.clone(), 0, record_type);
        absent.dns_class = DNSClass::NONE;
        prerequisites.push(absent);
    }
    for record in seen {
        let mut present = record.clone();
        present.ttl = 0;
        prerequisites.push(present);
    }
}

/// Replaces a record set (RFC 2136 §2.5.1, §2.5.2).
fn replace(
    updates: &mut Vec<Record>,
    name: &Name,
    record_type: RecordType,
    seen: &[Record],
    ttl: u32,
    data: Vec<RData>,
) {
    if !seen.is_empty() {
        let mut delete = Record::update0(name.clone(), 0, record_type);
        delete.dns_class = DNSClass::ANY;
        updates.push(delete);
    }
    for one in data {
        updates.push(Record::from_rdata(name.clone(), ttl, one));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
