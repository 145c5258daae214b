//! The numbers in the operator's `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

/// The text of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape(String);

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    count: f64,
    sum: f64,
    /// The cumulative counts by the upper bound in microseconds.
    buckets: BTreeMap<u64, f64>,
}

impl Scrape {
    /// A scrape with the text of `/metrics`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of a metric's samples whose labels satisfy `wanted`.
    pub fn sum(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        let samples = self.samples(name).filter(|(labels, _)| wanted(labels));
        samples.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The number of requests that change something: of Leases, or of everything else.
    pub fn writes(&self, leases: bool) -> f64 {
        self.sum("mail_failover_api_requests_total", |labels| {
            let method = label(labels, "method");
            let changes = ["POST", "PATCH", "PUT", "DELETE"].iter().any(|change| method == Some(change));
            changes && (label(labels, "resource") == Some("leases")) == leases
        })
    }

    /// The number of requests that change nothing, without watches.
    pub fn reads(&self) -> f64 {
        self.sum("mail_failover_api_requests_total", |labels| label(labels, "method") == Some("GET"))
    }

    /// A histogram over all samples whose labels satisfy `wanted`.
    pub fn durations(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Durations {
        let mut buckets = BTreeMap::new();
        for (labels, value) in self.samples(&format!("{name}_bucket")).filter(|(labels, _)| wanted(labels)) {
            let bound =
                label(labels, "le").and_then(|bound| bound.parse::<f64>().ok()).filter(|bound| bound.is_finite());
            if let Some(bound) = bound.and_then(|bound| Duration::try_from_secs_f64(bound).ok()) {
                *buckets.entry(u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)).or_default() += value;
            }
        }
        let count = self.sum(&format!("{name}_count"), &wanted);
        Durations { count, sum: self.sum(&format!("{name}_sum"), &wanted), buckets }
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

impl Durations {
    /// The part of the histogram since an earlier scrape of it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets.clone();
        for (bound, count) in &mut buckets {
            *count -= earlier.buckets.get(bound).copied().unwrap_or_default();
        }
        Self { count: self.count - earlier.count, sum: self.sum - earlier.sum, buckets }
    }

    /// The mean; `None` if the histogram is empty.
    pub fn mean(&self) -> Option<Duration> {
        (self.count >= 1.0).then(|| Duration::from_secs_f64((self.sum / self.count).max(0.0)))
    }

    /// The lowest bound that this share (in percent) did not exceed. It is `None` if the histogram
    /// is empty, or if the share exceeds every bound.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let wanted = self.count * f64::from(percent) / 100.0;
        let found = self.buckets.iter().find(|(_, count)| self.count >= 1.0 && **count >= wanted);
        found.map(|(bound, _)| Duration::from_micros(*bound))
    }
}

/// The value of a label. None of the operator's values contains a comma or a quotation mark.
pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut values = labels.split(',').filter_map(|label| label.split_once('='));
    values.find(|(found, _)| *found == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(fast: u32, all: u32) -> Scrape {
        Scrape::new(format!(
            "# TYPE took histogram\n\
             took_sum{{method=\"PUT\"}} {sum}\n\
             took_count{{method=\"PUT\"}} {all}\n\
             took_bucket{{le=\"0.1\",method=\"PUT\"}} {fast}\n\
             took_bucket{{le=\"1.0\",method=\"PUT\"}} {all}\n\
             took_bucket{{le=\"+Inf\",method=\"PUT\"}} {all}\n\
             took_bucket{{le=\"0.1\",method=\"GET\"}} 1000\n\
             took_count{{method=\"GET\"}} 1000\n\
             took 5\n",
            sum = f64::from(all) * 0.2
        ))
    }

    fn puts(scrape: &Scrape) -> Durations {
        scrape.durations("took", |labels| label(labels, "method") == Some("PUT"))
    }

    #[test]
    fn a_histogram_tells_what_came_in_between_two_scrapes() {
        let between = puts(&scrape(98, 200)).since(&puts(&scrape(0, 100)));
        assert_eq!(between.mean(), Some(Duration::from_millis(200)));
        assert_eq!(between.percentile(98), Some(Duration::from_millis(100)));
        assert_eq!(between.percentile(99), Some(Duration::from_secs(1)));
        assert_eq!(puts(&scrape(0, 0)).percentile(99), None);
        assert_eq!(puts(&scrape(0, 0)).mean(), None);
    }

    #[test]
    fn writes_are_what_changes_something_and_leases_are_apart() {
        let name = "mail_failover_api_requests_total";
        let scrape = Scrape::new(format!(
            "{name}{{client=\"call\",method=\"PATCH\",resource=\"mailroutes\",code=\"200\"}} 3\n\
             {name}{{client=\"call\",method=\"GET\",resource=\"mailroutes\",code=\"200\"}} 4\n\
             {name}{{client=\"lease\",method=\"PUT\",resource=\"leases\",code=\"200\"}} 5\n\
             {name}{{client=\"watch\",method=\"WATCH\",resource=\"services\",code=\"200\"}} 6\n"
        ));
        let seen = [scrape.writes(false), scrape.reads(), scrape.writes(true)];
        for (seen, expected) in seen.into_iter().zip([3.0, 4.0, 5.0]) {
            assert!((seen - expected).abs() < f64::EPSILON, "{seen}, not {expected}");
        }
    }
}
