//! Exposition formats of metrics: `OpenMetrics`, and the classic text format for collectors that do not read it.
//!
//! Pure. The classic format is made from the other one: samples are the same, and comments differ.

use std::fmt::Write as _;

/// Text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpositionFormat {
    /// Version 1.0.0 of `OpenMetrics`.
    OpenMetrics,
    /// Version 0.0.4 of the text format of Prometheus.
    Classic,
}

impl ExpositionFormat {
    /// Chooses the format for the header `Accept` (RFC 9110 §12.5.1): `OpenMetrics` if the client names it and does not
    /// prefer plain text, otherwise the classic one.
    // As the client libraries of Prometheus choose; who names nothing may be a collector of 2014, or a person with curl.
    pub(super) fn of_accept(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let open = quality(accept, "application/openmetrics-text");
        let plain = quality(accept, "text/plain");
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Returns the weight of a media type in thousandths; 0 if it is not named.
fn quality(accept: &str, media_type: &str) -> u16 {
    let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
    let weights = ranges.filter_map(|mut parts| {
        parts.next().filter(|name| name.eq_ignore_ascii_case(media_type))?;
        Some(parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths))
    });
    weights.max().unwrap_or(0)
}

fn thousandths(weight: &str) -> u16 {
    match weight.split_once('.') {
        _ if weight.starts_with('1') => 1000,
        Some(("0", decimals)) => format!("{decimals:0<3}").get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0),
        Some(_) | None => 0,
    }
}

/// Turns metrics in `OpenMetrics` into the classic format: a counter is named with its suffix in comments, too, an info
/// is a gauge, and there are neither units nor an end mark.
pub(super) fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help of a metric comes before its type, which decides about its name.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = words.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|words| words.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            // Writing to a String cannot fail.
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(text, "# HELP {name}{suffix} {words}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_client_chooses_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        for (accept, format) in [
            (Some(prometheus), ExpositionFormat::OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0"), ExpositionFormat::OpenMetrics),
            (Some("text/plain;version=0.0.4"), ExpositionFormat::Classic),
            (Some("application/openmetrics-text;q=0.1, text/plain;q=0.25"), ExpositionFormat::Classic),
            (Some("application/openmetrics-text;q=0"), ExpositionFormat::Classic),
            (Some("*/*"), ExpositionFormat::Classic),
            (None, ExpositionFormat::Classic),
        ] {
            assert_eq!(ExpositionFormat::of_accept(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_classic_format_has_the_same_samples_under_the_names_that_it_demands() {
        let mut registry = Registry::default();
        registry.register("calls", "Calls made", Counter::<u64>::default());
        registry.register("build", "The version", Info::new(vec![("version", "1")]));
        registry.register("open", "Open now", Gauge::<i64>::default());
        let wait = Histogram::new([1.0]);
        wait.observe(0.5);
        registry.register("wait_seconds", "Time waited", wait);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodable");
        let expected = "# HELP calls_total Calls made.\n# TYPE calls_total counter\ncalls_total 0\n\
            # HELP build_info The version.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
            # HELP open Open now.\n# TYPE open gauge\nopen 0\n\
            # HELP wait_seconds Time waited.\n# TYPE wait_seconds histogram\nwait_seconds_sum 0.5\nwait_seconds_count 1\n\
            wait_seconds_bucket{le=\"1.0\"} 1\nwait_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(classic(&text), expected);
    }
}
