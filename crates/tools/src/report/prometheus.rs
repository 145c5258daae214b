//! Questions to Prometheus, and its answers (HTTP API v1).

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Request;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use serde::Deserialize;

use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_runtime::kubernetes::{self, Purpose, describe};

/// Numbers of one route over the time of the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RouteNumbers {
    /// Share of the time in which mail could leave, 0 to 1, as far as it was scraped.
    pub(super) availability: Option<f64>,
    pub(super) failovers: Option<f64>,
    pub(super) failbacks: Option<f64>,
    /// Attempts to deliver that a backend accepted.
    pub(super) accepted: Option<f64>,
    pub(super) deferred: Option<f64>,
    pub(super) possible_duplicates: Option<f64>,
}

/// Answers of Prometheus: the numbers of each route, and the start of its series within the time of the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PrometheusAnswers {
    pub(super) routes: Vec<(ObjectKey, RouteNumbers)>,
    /// Earliest time at which there is a sample; `None` without any.
    pub(super) reaches_back_to: Option<Timestamp>,
}

/// Errors of asking Prometheus.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrometheusError {
    #[error("{0} is no address; write it like http://prometheus.monitoring:9090")]
    Address(String),
    #[error("it cannot be asked: {}", describe(.0))]
    Call(Box<kube::Error>),
    #[error("its answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("it refuses the question: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Sample>,
}

/// Sample of an instant vector.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Sample {
    #[serde(default)]
    metric: Labels,
    value: (f64, String),
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Labels {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    route: String,
}

/// Parses an answer.
pub(super) fn samples(text: &str) -> Result<Vec<Sample>, PrometheusError> {
    let Answer { status, error, data } = serde_json::from_str(text)?;
    if status != "success" {
        return Err(PrometheusError::Refused(error));
    }
    Ok(data.map(|data| data.result).unwrap_or_default())
}

/// A question, and the place of its answer.
struct Question {
    query: String,
    place: fn(&mut RouteNumbers) -> &mut Option<f64>,
}

fn questions(length: Duration) -> Vec<Question> {
    let window = format!("{}s", length.as_secs());
    let transitions = |kind: &str| {
        format!(
            r#"sum by (namespace, route) (round(increase(mail_failover_route_transitions_total{{kind="{kind}",reason!="Drill"}}[{window}])))"#
        )
    };
    // Every replica counts all deliveries.
    let deliveries = |result: &str| {
        format!(
            r#"sum by (namespace, route) (max by (namespace, route, backend) (increase(mail_failover_agent_deliveries_total{{result="{result}"}}[{window}])))"#
        )
    };
    vec![
        Question {
            query: format!(
                "avg_over_time(max by (namespace, route) (mail_failover_route_delivering)[{window}:{}s])",
                (length.as_secs() / 5000).max(30)
            ),
            place: |numbers| &mut numbers.availability,
        },
        Question { query: transitions("Failover"), place: |numbers| &mut numbers.failovers },
        Question { query: transitions("Failback"), place: |numbers| &mut numbers.failbacks },
        Question { query: deliveries("sent"), place: |numbers| &mut numbers.accepted },
        Question { query: deliveries("deferred"), place: |numbers| &mut numbers.deferred },
        Question { query: deliveries("possible_duplicate"), place: |numbers| &mut numbers.possible_duplicates },
    ]
}

/// Asks for the numbers of all routes in the time that ends at `until`.
pub(super) async fn ask(
    address: &str,
    length: Duration,
    until: Timestamp,
) -> Result<PrometheusAnswers, PrometheusError> {
    let wrong = || PrometheusError::Address(address.to_owned());
    let uri = address.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let config = Config::new(uri);
    let metrics = kubernetes::Metrics::new(&mut Registry::default());
    let client = kubernetes::client(config, Purpose::Call, &metrics);
    let client = client.map_err(|error| PrometheusError::Call(Box::new(error)))?;
    let mut answers = PrometheusAnswers::default();
    for Question { query, place } in questions(length) {
        for sample in samples(&query_text(&client, &query, until).await?)? {
            note(&mut answers, &sample, place);
        }
    }
    let first = format!(
        "min(min_over_time(timestamp(max by (namespace, route) (mail_failover_route_delivering))[{}s:{}s]))",
        length.as_secs(),
        (length.as_secs() / 5000).max(30)
    );
    let oldest = samples(&query_text(&client, &first, until).await?)?;
    answers.reaches_back_to = oldest.first().and_then(|sample| sample.value.1.parse().ok()).map(seconds);
    Ok(answers)
}

/// Takes a sample over into the numbers of its route.
pub(super) fn note(answers: &mut PrometheusAnswers, sample: &Sample, place: fn(&mut RouteNumbers) -> &mut Option<f64>) {
    let Some(value) = sample.value.1.parse().ok().filter(|value: &f64| value.is_finite()) else { return };
    let key = ObjectKey::new(sample.metric.namespace.as_str(), sample.metric.route.as_str());
    let index = answers.routes.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        answers.routes.push((key, RouteNumbers::default()));
        answers.routes.len() - 1
    });
    *place(&mut answers.routes[index].1) = Some(value);
}

async fn query_text(client: &Client, query: &str, until: Timestamp) -> Result<String, PrometheusError> {
    let path = format!("/api/v1/query?query={}&time={}", encoded(query), until.as_micros() / 1_000_000);
    let request = Request::get(path).body(vec![]).map_err(|_| PrometheusError::Address(query.to_owned()))?;
    let text = client.request_text(request).await;
    text.map_err(|error| PrometheusError::Call(Box::new(error)))
}

/// Encodes a text for the query of a URI (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[expect(clippy::cast_possible_truncation, reason = "a time of this century has room in an i64")]
fn seconds(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}
