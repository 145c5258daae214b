//! Health of our objects in Argo CD and Flux: Argo CD's scripts in its interpreter, Flux's
//! expressions in its evaluator, and kstatus.
//!
//! `UPDATE_MANIFESTS=1 cargo test -p mail-failover-e2e --test health` (`make manifests`) writes
//! `config/argocd/argocd-cm.yaml` anew.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use mail_failover_api::{
    ActiveBackend, FailoverPolicyStatus, Health as Verdict, MailRouteStatus, PauseStatus, RouteBackendStatus,
    RouteState, SendingBackendStatus, WaitingForStatus,
};
use mail_failover_e2e::health::{Health, script};
use mail_failover_e2e::helm::{objects, repository};
use serde::Serialize;
use serde_json::{Value, json};

const GENERATION: i64 = 3;
const SINCE: &str = "2026-11-25T10:00:00Z";
const SUMMARY: &str = "mail leaves by b: a is Unhealthy (NoAnswer)";

const STUCK: &str = "a cannot send mail (NoAnswer), and mail stays there";

const WAITS: (&str, &str) = ("Progressing", "Waiting for the operator to look at this version");
const DELETED: (&str, &str) = ("Progressing", "Pending deletion");

/// An object, and the expected health by Argo CD (status and message), Flux and kstatus.
struct HealthCase {
    what: &'static str,
    object: Value,
    argo_cd: (&'static str, &'static str),
    flux: &'static str,
    kstatus: &'static str,
}

fn case(
    what: &'static str,
    object: Value,
    argo_cd: (&'static str, &'static str),
    [flux, kstatus]: [&'static str; 2],
) -> HealthCase {
    HealthCase { what, object, argo_cd, flux, kstatus }
}

fn moment() -> Timestamp {
    SINCE.parse().expect("a time")
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(GENERATION),
        last_transition_time: Time(moment()),
    }
}

/// An object with this status, serialized like the operator does it.
fn object(kind: &str, status: impl Serialize) -> Value {
    json!({
        "apiVersion": "mailfailover.io/v1alpha1", "kind": kind,
        "metadata": { "name": "orders", "namespace": "shop", "generation": GENERATION },
        "spec": {}, "status": serde_json::to_value(status).expect("JSON"),
    })
}

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[name] = value;
    object
}

fn active(backend: &str, percent: i32) -> ActiveBackend {
    ActiveBackend { backend: backend.to_owned(), percent, overflow: false }
}

fn verdict(name: &str, health: Verdict, reason: &str) -> RouteBackendStatus {
    RouteBackendStatus { name: name.to_owned(), health, reason: reason.to_owned(), since: Some(MicroTime(moment())) }
}

/// The status of a route over `a` and `b` whose mail leaves by `a`.
fn well() -> MailRouteStatus {
    MailRouteStatus {
        observed_generation: Some(GENERATION),
        active: vec![active("a", 100)],
        since: Some(MicroTime(moment())),
        state: Some(RouteState::Preferred),
        message: Some("mail leaves by a".to_owned()),
        backends: vec![verdict("a", Verdict::Healthy, "Ok"), verdict("b", Verdict::Healthy, "Ok")],
        conditions: vec![
            condition("FailedOver", "False", "Preferred", "mail leaves by a"),
            condition("OutputsApplied", "True", "Applied", "every output leads to a"),
            condition("Ready", "True", "Delivering", "mail leaves by a"),
            condition("Redundant", "True", "StandbyHealthy", "b could take over"),
        ],
        ..MailRouteStatus::default()
    }
}

fn failed_over() -> MailRouteStatus {
    MailRouteStatus {
        active: vec![active("b", 100)],
        state: Some(RouteState::FailedOver),
        message: Some(SUMMARY.to_owned()),
        backends: vec![verdict("a", Verdict::Unhealthy, "NoAnswer"), verdict("b", Verdict::Healthy, "Ok")],
        conditions: vec![
            condition("FailedOver", "True", "NoAnswer", SUMMARY),
            condition("OutputsApplied", "True", "Applied", "every output leads to b"),
            condition("Ready", "True", "Delivering", SUMMARY),
            condition("Redundant", "False", "NoStandby", "no other backend could take over"),
        ],
        ..well()
    }
}

fn paused(until: Option<MicroTime>) -> MailRouteStatus {
    MailRouteStatus {
        state: Some(RouteState::Paused),
        waiting_for: Some(WaitingForStatus {
            reason: "Paused".to_owned(),
            since: Some(MicroTime(moment())),
            until: until.clone(),
        }),
        pause: Some(PauseStatus { since: MicroTime(moment()), until }),
        ..well()
    }
}

fn with(status: MailRouteStatus, condition: Condition) -> MailRouteStatus {
    let mut status = status;
    status.conditions.retain(|one| one.type_ != condition.type_);
    status.conditions.push(condition);
    status
}

fn dead(status: MailRouteStatus) -> MailRouteStatus {
    let dead = ["a", "b"].map(|name| verdict(name, Verdict::Unhealthy, "NoAnswer"));
    MailRouteStatus { backends: dead.to_vec(), ..status }
}

fn held(reason: &str, status: MailRouteStatus) -> MailRouteStatus {
    let waiting_for = WaitingForStatus { reason: reason.to_owned(), since: Some(MicroTime(moment())), until: None };
    MailRouteStatus { waiting_for: Some(waiting_for), ..status }
}

fn route(status: MailRouteStatus) -> Value {
    object("MailRoute", status)
}

/// Its mail is held on a dead backend.
fn stuck(status: MailRouteStatus) -> MailRouteStatus {
    let status = with(status, condition("Ready", "False", "HeldOnDeadBackend", STUCK));
    MailRouteStatus { state: Some(RouteState::Holding), message: Some(STUCK.to_owned()), ..status }
}

fn routes() -> Vec<HealthCase> {
    let none_healthy = "a is Unhealthy (NoAnswer), b is Unhealthy (NoAnswer)";
    let rejected = "spec.backends[1].name: b does not exist in namespace shop; create it";
    let invalid = "spec.policyRef: policy fast cannot be used";
    vec![
        case(
            "nobody has looked",
            object("MailRoute", json!({ "observedGeneration": -1 })),
            WAITS,
            ["InProgress", "InProgress"],
        ),
        case("a new version waits", changed(route(well()), "/metadata/generation", json!(4)), WAITS, ["InProgress"; 2]),
        case(
            "without conditions",
            route(MailRouteStatus { conditions: vec![], ..well() }),
            WAITS,
            ["InProgress", "Current"],
        ),
        case(
            "the preferred way",
            route(well()),
            ("Healthy", "Mail leaves by a since 2026-11-25T10:00:00.000000Z"),
            ["Current"; 2],
        ),
        case(
            "failed over",
            route(failed_over()),
            (
                "Healthy",
                "Failed over: mail leaves by b since 2026-11-25T10:00:00.000000Z (NoAnswer); no other backend could take over",
            ),
            ["Current"; 2],
        ),
        case(
            "shared out",
            route(MailRouteStatus {
                active: vec![active("a", 60), active("b", 40)],
                unplaced_percent: Some(10),
                ..well()
            }),
            (
                "Healthy",
                "Mail leaves by a (60 %), b (40 %) since 2026-11-25T10:00:00.000000Z; 10 % of the mail has nowhere to go",
            ),
            ["Current"; 2],
        ),
        case(
            "no backend can deliver",
            route(with(
                MailRouteStatus {
                    state: Some(RouteState::NoneHealthy),
                    message: Some(none_healthy.to_owned()),
                    ..held("NoneHealthy", dead(well()))
                },
                condition("Ready", "False", "NoneHealthy", none_healthy),
            )),
            ("Degraded", "No mail can be sent: a is Unhealthy (NoAnswer), b is Unhealthy (NoAnswer)"),
            ["Failed", "InProgress"],
        ),
        case(
            "it may not leave a dead backend",
            route(stuck(held("SwitchBudget", MailRouteStatus { active: vec![active("a", 100)], ..failed_over() }))),
            ("Degraded", STUCK),
            ["Failed", "InProgress"],
        ),
        case(
            "no standby has answered yet",
            route(with(
                stuck(held("AwaitingConfirmation", MailRouteStatus { backends: failed_over().backends, ..well() })),
                condition("Ready", "False", "AwaitingConfirmation", STUCK),
            )),
            ("Progressing", STUCK),
            ["InProgress"; 2],
        ),
        case(
            "no standby has answered for a minute",
            route(stuck(held("AwaitingConfirmation", MailRouteStatus { backends: failed_over().backends, ..well() }))),
            ("Degraded", STUCK),
            ["Failed", "InProgress"],
        ),
        case(
            "the first evidence is awaited",
            route(with(
                MailRouteStatus {
                    active: vec![],
                    since: None,
                    state: Some(RouteState::Unknown),
                    ..held("AwaitingEvidence", well())
                },
                condition("Ready", "False", "AwaitingEvidence", "not enough evidence for a first decision"),
            )),
            ("Progressing", "not enough evidence for a first decision"),
            ["InProgress"; 2],
        ),
        case(
            "outputs are being written",
            route(with(
                with(well(), condition("OutputsApplied", "Unknown", "Waiting", "not written yet")),
                condition("Ready", "False", "OutputsWaiting", "the outputs are not written yet"),
            )),
            ("Progressing", "the outputs are not written yet"),
            ["InProgress"; 2],
        ),
        case(
            "the API server failed",
            route(with(
                with(well(), condition("OutputsApplied", "False", "WriteFailed", "Service mail: timed out")),
                condition("Ready", "False", "WriteFailed", "Service mail: timed out"),
            )),
            ("Progressing", "Service mail: timed out"),
            ["InProgress"; 2],
        ),
        case(
            "an output is somebody else's",
            route(with(
                with(well(), condition("OutputsApplied", "False", "OutputConflict", "Service mail is not ours")),
                condition("Ready", "False", "OutputConflict", "Service mail is not ours"),
            )),
            ("Degraded", "Service mail is not ours"),
            ["InProgress"; 2],
        ),
        case(
            "a reference is missing",
            route(with(well(), condition("Ready", "False", "BackendNotFound", rejected))),
            ("Progressing", "spec.backends[1].name: b does not exist in namespace shop; create it"),
            ["InProgress"; 2],
        ),
        case(
            "the spec is wrong",
            route(with(
                with(well(), condition("Ready", "False", "InvalidSpec", invalid)),
                condition("Stalled", "True", "InvalidSpec", invalid),
            )),
            ("Degraded", "spec.policyRef: policy fast cannot be used"),
            ["Failed"; 2],
        ),
        case(
            "paused",
            route(paused(None)),
            (
                "Suspended",
                "Paused until somebody resumes it: nothing moves. Mail leaves by a since 2026-11-25T10:00:00.000000Z",
            ),
            ["Current"; 2],
        ),
        case(
            "paused for a while",
            route(paused(Some(MicroTime(moment())))),
            (
                "Suspended",
                "Paused until 2026-11-25T10:00:00.000000Z: nothing moves. Mail leaves by a since 2026-11-25T10:00:00.000000Z",
            ),
            ["Current"; 2],
        ),
        case("paused on a dead backend", route(stuck(paused(None))), ("Degraded", STUCK), ["Failed", "InProgress"]),
        case(
            "values of a newer version",
            changed(route(well()), "/status/state", json!("Diverted")),
            ("Healthy", "Mail leaves by a since 2026-11-25T10:00:00.000000Z"),
            ["Current"; 2],
        ),
        case(
            "a condition's status of a newer version",
            route(with(well(), condition("Ready", "Partly", "Delivering", "half of it leaves"))),
            ("Progressing", "half of it leaves"),
            ["InProgress", "Current"],
        ),
        case(
            "it is being deleted",
            changed(route(well()), "/metadata/deletionTimestamp", json!(SINCE)),
            DELETED,
            ["InProgress", "Terminating"],
        ),
    ]
}

fn observed_backend(health: Verdict, reason: &str, message: Option<&str>) -> SendingBackendStatus {
    SendingBackendStatus {
        observed_generation: Some(GENERATION),
        health: Some(health),
        since: Some(MicroTime(moment())),
        reason: Some(reason.to_owned()),
        message: message.map(ToOwned::to_owned),
        conditions: vec![condition("Ready", "True", "Observed", "accepted, and every probe has ended a round")],
        ..SendingBackendStatus::default()
    }
}

fn rejected_backend(conditions: Vec<Condition>) -> SendingBackendStatus {
    SendingBackendStatus { conditions, ..observed_backend(Verdict::Unknown, "Inconclusive", None) }
}

fn backend(status: SendingBackendStatus) -> Value {
    object("SendingBackend", status)
}

fn backends() -> Vec<HealthCase> {
    let dead = observed_backend(Verdict::Unhealthy, "ConnectionRefused", Some("TCP: connection refused"));
    let missing = "spec.smtp.tls.caRef: ConfigMap ca does not exist in namespace shop; create it";
    vec![
        case(
            "nobody has looked",
            object("SendingBackend", json!({ "observedGeneration": -1 })),
            WAITS,
            ["InProgress"; 2],
        ),
        case(
            "it delivers",
            backend(observed_backend(Verdict::Healthy, "Ok", None)),
            ("Healthy", "Healthy since 2026-11-25T10:00:00.000000Z"),
            ["Current"; 2],
        ),
        case(
            "it does not deliver",
            backend(dead.clone()),
            ("Healthy", "Unhealthy since 2026-11-25T10:00:00.000000Z: ConnectionRefused, TCP: connection refused"),
            ["Current"; 2],
        ),
        case(
            "a verdict of a newer version",
            changed(backend(dead.clone()), "/status/health", json!("Warming")),
            ("Healthy", "Warming since 2026-11-25T10:00:00.000000Z: ConnectionRefused, TCP: connection refused"),
            ["Current"; 2],
        ),
        case(
            "suspended",
            changed(backend(observed_backend(Verdict::Healthy, "Ok", None)), "/spec/suspended", json!(true)),
            ("Suspended", "spec.suspended: no new mail leaves this way. Healthy since 2026-11-25T10:00:00.000000Z"),
            ["Current"; 2],
        ),
        case(
            "a reference is missing",
            backend(rejected_backend(vec![condition("Ready", "False", "CANotFound", missing)])),
            ("Progressing", "spec.smtp.tls.caRef: ConfigMap ca does not exist in namespace shop; create it"),
            ["InProgress"; 2],
        ),
        case(
            "the spec is wrong",
            backend(rejected_backend(vec![
                condition("Ready", "False", "InvalidSpec", "spec.smtp.host: no host name"),
                condition("Stalled", "True", "InvalidSpec", "spec.smtp.host: no host name"),
            ])),
            ("Degraded", "spec.smtp.host: no host name"),
            ["Failed"; 2],
        ),
        case(
            "it is being deleted",
            changed(backend(dead), "/metadata/deletionTimestamp", json!(SINCE)),
            DELETED,
            ["InProgress", "Terminating"],
        ),
    ]
}

fn accepted(route_count: i32, routes: &[&str]) -> FailoverPolicyStatus {
    FailoverPolicyStatus {
        observed_generation: Some(GENERATION),
        route_count: Some(route_count),
        routes: routes.iter().map(ToString::to_string).collect(),
        conditions: vec![condition("Ready", "True", "Accepted", "accepted")],
        effective: None,
        notifications: None,
    }
}

fn policy(status: FailoverPolicyStatus) -> Value {
    object("FailoverPolicy", status)
}

fn policies() -> Vec<HealthCase> {
    let invalid = "spec.failback.windows[0].timeZone: no such zone";
    vec![
        case(
            "nobody has looked",
            object("FailoverPolicy", json!({ "observedGeneration": -1 })),
            WAITS,
            ["InProgress"; 2],
        ),
        case("unused", policy(accepted(0, &[])), ("Healthy", "No route uses it"), ["Current"; 2]),
        case("used", policy(accepted(2, &["bills", "orders"])), ("Healthy", "Used by bills, orders"), ["Current"; 2]),
        case(
            "used by more routes than are listed",
            policy(accepted(120, &["bills", "orders"])),
            ("Healthy", "Used by bills, orders and 118 more"),
            ["Current"; 2],
        ),
        case(
            "the spec is wrong",
            policy(FailoverPolicyStatus {
                conditions: vec![
                    condition("Ready", "False", "InvalidSpec", invalid),
                    condition("Stalled", "True", "InvalidSpec", invalid),
                ],
                ..accepted(1, &["orders"])
            }),
            ("Degraded", "spec.failback.windows[0].timeZone: no such zone"),
            ["Failed"; 2],
        ),
        case(
            "it is being deleted",
            changed(policy(accepted(0, &[])), "/metadata/deletionTimestamp", json!(SINCE)),
            DELETED,
            ["InProgress", "Terminating"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_what_it_is_to_argo_cd_flux_and_kstatus() -> Result<()> {
    let health = tokio::task::spawn_blocking(Health::locate).await??;
    let cases: Vec<_> = [routes(), backends(), policies()].into_iter().flatten().collect();
    let objects: Vec<_> = cases.iter().map(|case| case.object.clone()).collect();
    let mut wrong = String::new();
    for (case, found) in cases.iter().zip(health.of(&objects).await?) {
        let errors = [&found.argo_cd, &found.flux, &found.kstatus].map(|assessment| assessment.error.as_str()).concat();
        if !errors.is_empty() {
            writeln!(wrong, "{} ({}): {errors}", case.what, case.object["kind"])?;
        }
        let found_argo_cd = (found.argo_cd.status.as_str(), found.argo_cd.message.as_str());
        let found = (found_argo_cd, found.flux.status.as_str(), found.kstatus.status.as_str());
        let expected = (case.argo_cd, case.flux, case.kstatus);
        if found != expected {
            writeln!(wrong, "{} ({}):\n  {found:?} instead of\n  {expected:?}", case.what, case.object["kind"])?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_status_at_all_is_not_taken_for_healthy() -> Result<()> {
    let health = tokio::task::spawn_blocking(Health::locate).await??;
    for kind in ["MailRoute", "SendingBackend", "FailoverPolicy"] {
        let mut object = object(kind, json!(null));
        object.as_object_mut().context("an object")?.remove("status");
        let found = health.of(&[object]).await?.pop().context("an answer")?;
        ensure!((found.argo_cd.status.as_str(), found.argo_cd.message.as_str()) == WAITS, "{found:?}");
        // For this reason our definitions give each object a status (`api/crds.rs`), as committed in crds/.
        ensure!(found.flux.error.contains("no such attribute(s): status"), "{found:?}");
        ensure!(found.kstatus.status == "Current", "{found:?}");
    }
    Ok(())
}

#[test]
fn the_example_for_flux_has_the_health_checks() -> Result<()> {
    let parsed: Value = serde_saphyr::from_str(&fs::read_to_string(repository("config/flux/health-checks.yaml"))?)?;
    let example = objects(&fs::read_to_string(repository("config/flux/example.yaml"))?)?;
    let mail = example.last().context("Kustomizations")?;
    for field in ["wait", "healthCheckExprs"] {
        ensure!(
            mail["spec"][field] == parsed["spec"][field],
            "config/flux/example.yaml and health-checks.yaml differ in {field}"
        );
    }
    Ok(())
}

#[test]
fn the_patch_for_argo_cd_is_made_of_the_scripts() -> Result<()> {
    let mut text = "# Generated from the scripts beside it by `make manifests`.\n\
        # kubectl patch configmap argocd-cm -n argocd --type merge --patch-file config/argocd/argocd-cm.yaml\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
        app.kubernetes.io/part-of: argocd\ndata:\n"
        .to_owned();
    for kind in ["FailoverPolicy", "MailRoute", "SendingBackend"] {
        writeln!(text, "  resource.customizations.health.mailfailover.io_{kind}: |")?;
        for line in script(kind)?.lines() {
            if line.is_empty() { text.push('\n') } else { writeln!(text, "    {line}")? }
        }
    }
    let file = repository("config/argocd/argocd-cm.yaml");
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(&file, &text)?;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    ensure!(
        committed == text,
        "config/argocd/argocd-cm.yaml differs from its source; run `make manifests` and commit the result"
    );
    let parsed: Value = serde_saphyr::from_str(&text)?;
    for kind in ["FailoverPolicy", "MailRoute", "SendingBackend"] {
        ensure!(
            parsed["data"][format!("resource.customizations.health.mailfailover.io_{kind}")] == script(kind)?,
            "{kind}"
        );
    }
    Ok(())
}
