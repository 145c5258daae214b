//! The task that keeps our own Lease: writes this replica's verdicts, renews it, and deletes it at the end.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::local_report::LocalReport;
use super::report::Extent;
use super::{ENDPOINT_ANNOTATION, LEASE_LABEL, Metrics, OBSERVER_LABEL, REPORT_ANNOTATION, Settings, name};
use mail_failover_resolve::time::micro_time;
use mail_failover_runtime::backoff::{Backoff, jittered};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::kubernetes::{CallError, status_code};

/// The least pause between two reports, so that what changes at about the same time goes out together.
const PAUSE: Duration = Duration::from_millis(100);
/// Size of a report that lengthens the pause by one more.
// A replica that sees a thousand backends fail then writes once a second.
const BYTES_PER_PAUSE: usize = 20_000;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Limit for each call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Limit for deleting our Lease at the end.
// The others notice the silence anyway.
const WITHDRAW_DEADLINE: Duration = Duration::from_secs(2);
/// `metadata.managedFields` name of the writer.
const FIELD_MANAGER: &str = "mail-failover-observer";

/// Schedule of the next report. No I/O; time is an argument.
#[derive(Debug)]
struct ReportSchedule {
    lease_duration: Duration,
    /// Earliest time of the next write.
    earliest: Instant,
    /// Time of the next write if nothing changes.
    renewal: Instant,
    backoff: Backoff,
}

impl ReportSchedule {
    fn new(now: Instant, lease_duration: Duration) -> Self {
        let backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        Self { lease_duration, earliest: now, renewal: now, backoff }
    }

    fn due(&self, is_changed: bool) -> Instant {
        if is_changed { self.earliest } else { self.renewal.max(self.earliest) }
    }

    /// Returns the limit of a call.
    // Three attempts fit into the time for which a report holds.
    fn deadline(&self) -> Duration {
        DEADLINE.min(self.lease_duration / 3)
    }

    /// Notes that a report of this size was written, begun at that time.
    fn succeeded(&mut self, begun: Instant, bytes: usize) {
        self.backoff.reset();
        let shares = u32::try_from(bytes / BYTES_PER_PAUSE).unwrap_or(u32::MAX).saturating_add(1);
        self.earliest = begun + PAUSE.saturating_mul(shares);
        self.renewal = begun + jittered(self.lease_duration / 3, 0.1);
    }

    fn failed(&mut self, now: Instant) {
        self.earliest = now + self.backoff.after_failure();
        self.renewal = self.earliest;
    }
}

/// Publishes the local report until `shutdown`.
pub(super) async fn run(
    client: Client,
    settings: Settings,
    local_report: LocalReport,
    clock: Clock,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let publisher = ReportPublisher {
        api: Api::namespaced(client, &settings.namespace),
        name: settings.own_name(),
        schedule: ReportSchedule::new(Instant::now(), settings.lease_duration),
        settings,
        local_report,
        clock,
        metrics,
        written: None,
        is_failing: false,
        is_truncated: false,
    };
    publisher.run(shutdown).await;
}

struct ReportPublisher {
    api: Api<Lease>,
    name: String,
    settings: Settings,
    local_report: LocalReport,
    clock: Clock,
    metrics: Metrics,
    schedule: ReportSchedule,
    /// Version of the report that was written last.
    written: Option<u64>,
    is_failing: bool,
    is_truncated: bool,
}

impl ReportPublisher {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let due = self.schedule.due(self.written != Some(self.local_report.version()));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = sleep_until(due) => self.report().await,
                () = self.local_report.changed() => {}
            }
        }
        self.withdraw().await;
    }

    /// Writes the report into our Lease.
    // Not interrupted by a shutdown: a write that is on its way could arrive after the deletion.
    async fn report(&mut self) {
        let (text, extent, version) = self.local_report.report();
        let (begun, bytes) = (Instant::now(), text.len());
        let lease = self.lease(text);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&lease);
        let written = timeout(self.schedule.deadline(), self.api.patch(&self.name, &parameters, &patch)).await;
        let error = match written {
            Ok(Ok(_)) => {
                self.metrics.call("report", "ok");
                self.metrics.reported(extent, bytes);
                self.written = Some(version);
                self.schedule.succeeded(begun, bytes);
                self.log_extent(extent);
                return;
            }
            Ok(Err(error)) => CallError::from(error),
            Err(_elapsed) => CallError::Timeout(self.schedule.deadline()),
        };
        self.metrics.call("report", error.category());
        self.schedule.failed(Instant::now());
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                namespace = self.settings.namespace,
                lease = self.name,
                %error,
                "this replica cannot report to the others; trying on; its service account needs create, patch, list, watch and delete on leases"
            );
        }
    }

    fn log_extent(&mut self, extent: Extent) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("this replica reports to the others again");
        }
        let is_truncated = matches!(extent, Extent::Truncated | Extent::Complete { crowded: 1.., .. });
        if std::mem::replace(&mut self.is_truncated, is_truncated) != is_truncated {
            if is_truncated {
                tracing::warn!(
                    ?extent,
                    "this replica sees more failures than a report has room for; it has no vote in the namespaces left out"
                );
            } else {
                tracing::info!("the failures that this replica sees fit into its report again");
            }
        }
    }

    fn lease(&self, text: String) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                labels: Some(
                    [
                        (OBSERVER_LABEL.to_owned(), "true".to_owned()),
                        (LEASE_LABEL.to_owned(), name::label_value(&self.settings.lease_name)),
                    ]
                    .into(),
                ),
                annotations: Some(self.endpoint().into_iter().chain([(REPORT_ANNOTATION.to_owned(), text)]).collect()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.settings.identity.clone()),
                lease_duration_seconds: i32::try_from(self.settings.lease_duration.as_secs()).ok(),
                // Microseconds of a clock that only goes forward: every renewal makes a new version.
                renew_time: Some(micro_time(self.clock.now())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Returns the endpoint for agents' reports as an annotation.
    fn endpoint(&self) -> Option<(String, String)> {
        let text = serde_json::to_string(self.settings.reports.as_ref()?).ok()?;
        Some((ENDPOINT_ANNOTATION.to_owned(), text))
    }

    async fn withdraw(&self) {
        let deletion = timeout(WITHDRAW_DEADLINE, self.api.delete(&self.name, &DeleteParams::default())).await;
        let error = match deletion {
            Ok(Ok(_)) => return self.metrics.call("withdraw", "ok"),
            Ok(Err(error)) if status_code(&error) == Some(404) => return self.metrics.call("withdraw", "ok"),
            Ok(Err(error)) => CallError::from(error),
            Err(_elapsed) => CallError::Timeout(WITHDRAW_DEADLINE),
        };
        self.metrics.call("withdraw", error.category());
        tracing::warn!(lease = self.name, %error, "our observer's Lease could not be deleted");
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
