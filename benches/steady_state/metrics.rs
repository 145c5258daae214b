//! The operator's `/metrics`, as numbers.

use std::time::Duration;

/// The text of one scrape.
pub struct Scrape(String);

/// How late rounds were, between two scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    pub mean: Duration,
    /// 99 of 100 were no later; `None`: they were later than the last bound that is counted.
    pub p99: Option<Duration>,
}

impl Scrape {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of a metric's samples whose labels are wanted.
    pub fn sum(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.samples(name).filter(|(labels, _)| wanted(labels)).map(|(_, value)| value).sum()
    }

    /// Requests that change something; those about leases are counted apart.
    pub fn writes(&self, leases: bool) -> f64 {
        self.sum("mail_failover_api_requests_total", |labels| {
            let changes =
                ["POST", "PATCH", "PUT", "DELETE"].iter().any(|method| label(labels, "method") == Some(method));
            changes && (label(labels, "resource") == Some("leases")) == leases
        })
    }

    /// Requests that change nothing, watches not counted.
    pub fn reads(&self) -> f64 {
        self.sum("mail_failover_api_requests_total", |labels| label(labels, "method") == Some("GET"))
    }

    /// Probe rounds that are over.
    pub fn rounds(&self) -> f64 {
        self.sum("mail_failover_probe_rounds_total", |_| true)
    }

    /// Probes under schedule.
    pub fn targets(&self) -> f64 {
        self.sum("mail_failover_probe_targets", |_| true)
    }

    /// How late rounds were since an earlier scrape; `None` when there was none.
    pub fn lag_since(&self, earlier: &Self) -> Option<Lag> {
        const NAME: &str = "mail_failover_probe_start_lag_seconds";
        let since = |suffix: &str| {
            let name = format!("{NAME}_{suffix}");
            self.sum(&name, |_| true) - earlier.sum(&name, |_| true)
        };
        let (count, sum) = (since("count"), since("sum"));
        if count < 1.0 {
            return None;
        }
        let bucket = format!("{NAME}_bucket");
        let enough = self.samples(&bucket).find(|(labels, value)| {
            let before = earlier.sum(&bucket, |other| label(other, "le") == label(labels, "le"));
            value - before >= count * 0.99
        });
        let bound = enough.and_then(|(labels, _)| label(labels, "le")?.parse::<f64>().ok());
        let p99 = bound.filter(|bound| bound.is_finite()).map(Duration::from_secs_f64);
        Some(Lag { mean: Duration::from_secs_f64((sum / count).max(0.0)), p99 })
    }

    /// Labels and values of a metric's samples.
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.split_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.split_whitespace().next()?.parse().ok()?))
        })
    }
}

/// The value of a label. None of ours holds a comma or a quotation mark.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let values = labels.split(',').filter_map(|label| label.split_once('='));
    values.filter(|(found, _)| *found == name).map(|(_, value)| value.trim_matches('"')).next()
}
