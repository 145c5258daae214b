//! Figures for people: percentiles of durations, and tables with aligned columns.
//!
//! Pure.

use std::fmt;
use std::time::Duration;

/// A summary of a set of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number of durations.
    pub count: usize,
    pub min: Duration,
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    pub max: Duration,
}

impl Summary {
    /// Summarizes durations; `None` if there are none.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Some(Self {
            count: sorted.len(),
            min: *sorted.first()?,
            p50: percentile(&sorted, 50)?,
            p99: percentile(&sorted, 99)?,
            max: *sorted.last()?,
        })
    }
}

/// The percentile by the nearest-rank method: always a measured value, never one in between.
/// `sorted` must be sorted.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent.min(100)).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A duration with three significant digits: `950 µs`, `12.3 ms`, `1.23 s`, `125 s`.
pub fn human(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => scaled(micros, 1_000, "ms"),
        _ => scaled(micros, 1_000_000, "s"),
    }
}

fn scaled(micros: u128, unit: u128, name: &str) -> String {
    let decimals = match micros / unit {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    // In whole steps of the last digit, rounded half up, without floating point.
    let factor = 10_u128.pow(decimals);
    let steps = (micros * factor + unit / 2) / unit;
    let fraction = if decimals == 0 { String::new() } else { format!(".{:0>1$}", steps % factor, decimals as usize) };
    format!("{}{fraction} {name}", steps / factor)
}

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For figures.
    Right,
}

/// A table of text with the widths that its cells need.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no row.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self { columns: columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect(), rows: vec![] }
    }

    /// Adds a row. Missing cells are empty, surplus cells are shown without a heading.
    pub fn row<T: fmt::Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading: Vec<_> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines: Vec<_> = std::iter::once(&heading).chain(&self.rows).collect();
        let count = lines.iter().map(|line| line.len()).max().unwrap_or(0);
        let mut widths = vec![0; count];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line.iter()) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in lines {
            let mut text = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = line.get(column).map_or("", String::as_str);
                let separator = if column == 0 { "" } else { "  " };
                let aligned = match self.columns.get(column).map_or(Align::Left, |(_, align)| *align) {
                    Align::Left => format!("{separator}{cell:<width$}"),
                    Align::Right => format!("{separator}{cell:>width$}"),
                };
                text.push_str(&aligned);
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(range: std::ops::RangeInclusive<u64>) -> Vec<Duration> {
        range.map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let cases = [
            (millis(1..=100), (1, 50, 99, 100)),
            (millis(1..=101), (1, 51, 100, 101)),
            (millis(1..=1000), (1, 500, 990, 1000)),
            (millis(1..=2), (1, 1, 2, 2)),
            (millis(7..=7), (7, 7, 7, 7)),
        ];
        for (durations, (min, p50, p99, max)) in cases {
            let count = durations.len();
            let [min, p50, p99, max] = [min, p50, p99, max].map(Duration::from_millis);
            // The order in which they were measured does not count.
            assert_eq!(Summary::of(durations.into_iter().rev()), Some(Summary { count, min, p50, p99, max }));
        }
        assert_eq!(Summary::of([]), None);
        assert_eq!(percentile(&millis(1..=3), 0), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&millis(1..=3), 200), Some(Duration::from_millis(3)));
    }

    #[test]
    fn durations_have_three_digits_that_mean_something() {
        let cases = [
            (0, "0 µs"),
            (950, "950 µs"),
            (1_000, "1.00 ms"),
            (1_005, "1.01 ms"),
            (9_994, "9.99 ms"),
            (9_999, "10.00 ms"),
            (12_345, "12.3 ms"),
            (712_400, "712 ms"),
            (1_234_000, "1.23 s"),
            (59_960_000, "60.0 s"),
            (125_400_000, "125 s"),
        ];
        for (micros, expected) in cases {
            assert_eq!(human(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("FAULT", Align::Left), ("P50", Align::Right), ("MAX", Align::Right)]);
        table.row(["421 at banner", "712 ms", "1.02 s"]);
        table.row(["größte", "9 µs", ""]);
        table.row(["none"]);
        assert_eq!(
            table.to_string(),
            "FAULT             P50     MAX\n\
             421 at banner  712 ms  1.02 s\n\
             größte           9 µs\n\
             none\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_heading() {
        assert_eq!(Table::new(&[("A", Align::Left), ("B", Align::Right)]).to_string(), "A  B\n");
    }
}
