//! `process_*` metrics as Prometheus' own client libraries name them, from /proc.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks of /proc/PID/stat in a second (`USER_HZ`): part of Linux's interface, and 100 on every architecture that is
/// built here, whatever the kernel's own HZ is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Collector that reads /proc at each scrape and leaves out what cannot be read.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        if let Some(stat) = &stat {
            let help = "User and system CPU time spent in seconds";
            counter(&mut encoder, "process_cpu_seconds", help, stat.cpu_seconds)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory size in bytes", kilobytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", kilobytes(&status, "VmSize:")),
            ("process_threads", "Number of operating system threads", number(&status, "Threads:")),
            ("process_open_fds", "Number of open file descriptors", open_fds()),
            ("process_max_fds", "Maximum number of open file descriptors", max_fds()),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds",
                boot.zip(stat).map(|(boot, stat)| boot + stat.started_after_boot),
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

/// Fields of /proc/self/stat, see proc(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may itself hold blanks and brackets.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some(Self {
            cpu_seconds: seconds(&fields, 14)? + seconds(&fields, 15)?,
            started_after_boot: seconds(&fields, 22)?,
        })
    }
}

/// Converts a field in ticks to seconds.
fn seconds(fields: &[&str], field: usize) -> Option<f64> {
    // proc(5) counts from 1, and the first field here is its third.
    Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND)
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn number(status: &str, field: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, field: &str) -> Option<f64> {
    Some(number(status, field)? * 1024.0)
}

fn open_fds() -> Option<f64> {
    // Reading the folder holds one open itself.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    number(&limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let fields = "S 1 1 1 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 9 0 12345 1000 100";
        for name in ["mail-failover", "a b", "x) S 9 (y"] {
            let stat = Stat::parse(&format!("7 ({name}) {fields}"));
            assert_eq!(stat, Some(Stat { cpu_seconds: 4.0, started_after_boot: 123.45 }), "{name}");
        }
        assert_eq!(Stat::parse("7 (short) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmSize:\t   2048 kB\nVmRSS:\t     10 kB\nThreads:\t3\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(10240.0));
        assert_eq!(kilobytes(status, "VmSize:"), Some(2_097_152.0));
        assert_eq!(number(status, "Threads:"), Some(3.0));
        assert_eq!(number(status, "Missing:"), None);
    }

    #[test]
    fn this_process_has_every_metric_with_a_plausible_value() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &crate::telemetry::registry()).expect("encodable");
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().expect("a number")
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_start_time_seconds") > 1_500_000_000.0);
        let build = format!("mail_failover_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
    }
}
