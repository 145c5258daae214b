use std::fmt::Write;
use std::time::Duration;

use super::run::{Simulation, SimulationResult};
use super::summary::RouteSummary;
use super::words::length;

/// Formats timeline, summaries and expectations as text for a terminal.
pub fn table(simulation: &Simulation, outcome: &SimulationResult) -> String {
    let mut text = format!("{}\n", simulation.title);
    let observers = simulation.observers.join(", ");
    let _ = writeln!(
        text,
        "{} from {}, seed {}, observed by {observers}\n",
        length(simulation.duration()),
        simulation.start,
        simulation.seed
    );
    for warning in &simulation.warnings {
        let _ = writeln!(text, "warning: {warning}\n");
    }
    let mut rows = vec![["TIME", "WHAT", "CHANGE", "WHY"].map(str::to_owned)];
    rows.extend(outcome.timeline.entries.iter().map(|entry| {
        let line = simulation.line(&entry.what);
        [simulation.after(entry.at), line.subject, line.change, line.why]
    }));
    write_columns(&mut text, &rows);
    text.push('\n');
    for (route, summary) in outcome.summaries.iter().enumerate() {
        write_summary(&mut text, &simulation.fleet.route_name(route), summary);
    }
    if !outcome.checked.is_empty() {
        text.push('\n');
    }
    for checked in &outcome.checked {
        let mark = if checked.is_met { "ok  " } else { "FAIL" };
        let _ = writeln!(text, "{mark} line {}: {}", checked.line, checked.expected);
        if !checked.is_met {
            let _ = writeln!(text, "     found: {}", checked.found);
        }
    }
    text
}

fn write_summary(text: &mut String, name: &str, summary: &RouteSummary) {
    let shares: Vec<_> =
        summary.shares.iter().map(|(backend, part)| format!("{backend} {:.1} %", part * 100.0)).collect();
    let slowest = summary
        .slowest_failover
        .map_or_else(String::new, |slowest| format!(" (the slowest {} after the first evidence)", length(slowest)));
    let _ = writeln!(text, "route {name}");
    let _ = writeln!(
        text,
        "  transitions          {} failovers{slowest}, {} failbacks",
        summary.failovers, summary.failbacks
    );
    if !summary.drills.is_empty() {
        let drills: Vec<_> = summary.drills.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let _ = writeln!(text, "  drills               {}", drills.join(", "));
    }
    let _ = writeln!(text, "  mail went to         {}", shares.join(", "));
    for (what, lasted) in [
        ("no way out known for", summary.none_healthy),
        ("mail refused for    ", summary.refused),
        ("nowhere to go for   ", summary.unplaced),
    ] {
        let lasted = if lasted < Duration::from_millis(1) { "-".to_owned() } else { length(lasted) };
        let _ = writeln!(text, "  {what} {lasted}");
    }
}

/// Appends rows; every column but the last is as wide as its widest cell.
fn write_columns<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let mut widths = vec![0; N.saturating_sub(1)];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths.iter().map(Some).chain([None])) {
            match width {
                Some(width) => {
                    let _ = write!(line, "{cell:width$}  ");
                }
                None => line.push_str(cell),
            }
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
