//! Table of the test programs: their set, their share of the machine, and what they wait for.

use std::time::Duration;

use mail_failover_e2e::environment;

use super::Set;
use super::compile::Executable;
use super::job::Job;

/// A suite: a test program that starts something.
struct SuiteEntry {
    /// The name of its test target.
    target: &'static str,
    /// Parts of its trials, each with a cluster of its own, and their shares of the capacity; empty if all share one.
    parts: &'static [(&'static str, usize)],
    kind: SuiteKind,
    /// The share of the capacity that it takes.
    weight: usize,
    waits_for: &'static str,
}

/// The programs that a test program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteKind {
    /// No other program.
    Pure,
    /// A control plane, Postfix or a program of Go.
    Control,
    /// A node with pods.
    Node,
}

impl SuiteKind {
    /// Returns true if test programs of this kind are in a set.
    pub fn is_part_of(self, set: Set) -> bool {
        match (self, set) {
            (_, Set::All)
            | (Self::Pure, Set::Check | Set::Test)
            | (Self::Control, Set::Test)
            | (Self::Node, Set::E2e) => true,
            (Self::Pure | Self::Control, Set::E2e)
            | (Self::Control | Self::Node, Set::Check)
            | (Self::Node, Set::Test) => false,
        }
    }
}

const fn suite(target: &'static str, kind: SuiteKind, weight: usize, waits_for: &'static str) -> SuiteEntry {
    SuiteEntry { target, parts: &[], kind, weight, waits_for }
}

/// All suites in the order of their start: the longest first.
static SUITES: [SuiteEntry; 27] = [
    SuiteEntry {
        target: "in_cluster",
        // Tenants' trials fill the node with pods that send mail: another node beside it made messages take seconds.
        parts: &[("tenants", 2), ("leader", 1), ("upgrades", 1), ("vantage", 1)],
        kind: SuiteKind::Node,
        weight: 1,
        waits_for: "pods that start, Leases, rounds of probe Jobs (30 s), an API server that is away",
    },
    suite("gitops", SuiteKind::Node, 1, "three reconciliations of Flux (30 s each)"),
    suite("node", SuiteKind::Node, 1, "pods that start"),
    suite("cluster", SuiteKind::Node, 1, "a node that starts twice"),
    // Its Leases need a machine that no two others load, so it begins while there is room.
    suite("replicas", SuiteKind::Control, 2, "Leases (5 s) and operators that start"),
    suite("dns", SuiteKind::Control, 1, "looks at zones (a minute apart), and half a minute until a failure is told"),
    suite("postfix", SuiteKind::Control, 1, "Postfix's timeouts (2 to 4 s) and its second attempts (30 s)"),
    suite("outages", SuiteKind::Control, 1, "an API server that is away, twice"),
    suite("red_team", SuiteKind::Control, 1, "failovers, alone and beside tarpits"),
    suite("agents", SuiteKind::Control, 1, "a report that lapses (30 s)"),
    suite("deciding", SuiteKind::Control, 1, "probes, soaks and ramps of seconds"),
    suite("failover", SuiteKind::Control, 1, "probes and Events"),
    suite("webhooks", SuiteKind::Control, 1, "pauses between calls, and half a minute until a failure is told"),
    suite("notifications", SuiteKind::Control, 1, "alerts that are told again and operators that start"),
    suite("install", SuiteKind::Control, 1, "Leases of production (15 s)"),
    suite("garbage", SuiteKind::Control, 1, "Kubernetes' garbage collector (30 s for a new kind)"),
    suite("probe_jobs", SuiteKind::Control, 1, "rounds of probe Jobs (30 s)"),
    suite("bad_input", SuiteKind::Control, 1, "probes of servers that misbehave"),
    suite("control_plane", SuiteKind::Control, 1, "control planes that start and stop"),
    suite("agent_postfix", SuiteKind::Control, 1, "Postfix's timeouts"),
    suite("postfix_switch", SuiteKind::Control, 1, "Postfix's timeouts"),
    suite("relay", SuiteKind::Control, 1, "timeouts of stages (2 s)"),
    suite("mail", SuiteKind::Control, 1, "timeouts of SMTP sessions"),
    suite("api", SuiteKind::Control, 1, "the API server"),
    suite("chart", SuiteKind::Control, 1, "Helm"),
    suite("applications", SuiteKind::Pure, 1, "bounds on applications that are silent"),
    suite("health", SuiteKind::Control, 1, "scripts of Argo CD and Flux"),
];

/// The kind of a test target. One that is not in the table starts nothing.
pub fn set_of(target: &str) -> SuiteKind {
    SUITES.iter().find(|suite| suite.target == target).map_or(SuiteKind::Pure, |suite| suite.kind)
}

/// The jobs of a set in the order of their start.
pub fn jobs(set: Set, executables: Vec<Executable>) -> Vec<Job> {
    let mut executables = executables;
    executables.retain(|executable| set_of(&executable.name).is_part_of(set));
    executables.sort_by_key(|executable| {
        SUITES.iter().position(|suite| suite.target == executable.name).unwrap_or(SUITES.len())
    });
    executables.into_iter().flat_map(jobs_of).collect()
}

fn jobs_of(executable: Executable) -> Vec<Job> {
    let deadline = if environment::is_exhaustive() { Duration::from_hours(3) } else { Duration::from_mins(25) };
    let Executable { name, path, folder } = executable;
    let pure =
        SuiteEntry { target: "", parts: &[], kind: SuiteKind::Pure, weight: 2, waits_for: "nothing: it computes" };
    let suite = SUITES.iter().find(|suite| suite.target == name).unwrap_or(&pure);
    let whole =
        Job { name, program: path, folder, part: None, weight: suite.weight, waits_for: suite.waits_for, deadline };
    match suite.parts {
        [] => vec![whole],
        parts => parts.iter().map(|(part, weight)| Job { weight: *weight, ..whole.of_part(part) }).collect(),
    }
}
