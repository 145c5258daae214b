//! Rules about DNS records.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::lint::finding::ManifestFindings;
use crate::lint::set::ObjectSet;
use crate::manifests::Manifest;
use mail_failover_core::model::{DnsOutput, DnsProvider, ObjectKey};
use mail_failover_dns::api::{ApiError, DnsApiSecret};
use mail_failover_dns::tsig::{TsigKey, TsigSecretError};
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const SECRET_NOT_FOR_TSIG: Rule = Rule {
    code: "SecretNotForTsig",
    severity: Severity::Error,
    broken_when: "the Secret that a DNS output names is among the files, and has another type than mailfailover.io/tsig or no usable key",
};
pub(super) const TTL_OUTLASTS_OBJECTIVE: Rule = Rule {
    code: "TtlOutlastsObjective",
    severity: Severity::Warning,
    broken_when: "the TTL of a DNS output is longer than objectives.recoveryTime of the policy: caches lead to the failed backend for longer than a failover may take",
};
pub(super) const SECRET_NOT_FOR_DNS_API: Rule = Rule {
    code: "SecretNotForDnsApi",
    severity: Severity::Error,
    broken_when: "the Secret that a DNS output names for an API is among the files, and has another type than mailfailover.io/dns-api, no usable key, or those of another provider",
};
pub(super) const DNS_CLAIMED_TWICE: Rule = Rule {
    code: "DnsClaimedTwice",
    severity: Severity::Error,
    broken_when: "two routes have external-dns publish records of one name and type, or name one DNSEndpoint: only the older one leads them",
};
pub(super) const LONG_TTL: Rule = Rule {
    code: "LongTtl",
    severity: Severity::Hint,
    broken_when: "the TTL of a DNS output is longer than five minutes, and the policy has no objective that says how long a failover may take",
};
pub(super) const NO_DNS_AWAITED: Rule = Rule {
    code: "NoDnsAwaited",
    severity: Severity::Hint,
    broken_when: "every output of a route is DNS, and none is awaited: the route counts as applied before any record was changed",
};

/// Longest TTL that needs no reason.
const LONG: Duration = Duration::from_mins(5);

/// Records and objects of external-dns that two routes claim. The records are those of the cluster, the objects those of a
/// namespace.
fn claimed_twice(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    let mut known: BTreeMap<String, &ObjectKey> = BTreeMap::new();
    for view in set.views() {
        for output in &view.route.dns {
            let DnsProvider::ExternalDns(object) = &output.provider else { continue };
            let sets = output.backends.first().into_iter().flat_map(|records| &records.sets);
            let names = sets.map(|set| format!("{} {}", set.name, set.record_type.as_str()));
            let object = format!("DNSEndpoint {} of namespace {}", object.name, view.key.namespace);
            for claimed in names.chain([object]) {
                if let Some(other) = known.insert(claimed.clone(), view.key).filter(|other| *other != view.key) {
                    let message = format!("{claimed} is led by MailRoute {other}, too");
                    let remedy = "choose another name, or take one of the outputs out";
                    findings.add(&DNS_CLAIMED_TWICE, view.manifest, "spec.outputs", message, remedy);
                }
            }
        }
    }
}

pub(super) fn check(set: &ObjectSet<'_>, findings: &mut ManifestFindings) {
    claimed_twice(set, findings);
    for view in set.views() {
        let outputs: Vec<_> = view.spec.outputs.iter().map(|output| output.dns.as_ref()).collect();
        let policy = view.spec.policy_ref.as_ref().map(|policy| view.key.sibling(policy.name.as_str()));
        let policy = policy.and_then(|policy| set.policies.get(&policy)?.model.as_ref());
        let objective = policy.and_then(|policy| policy.objectives.recovery_time);
        // In the order of the spec.
        let mut models = view.route.dns.iter();
        for (index, dns) in outputs.iter().enumerate() {
            let Some(dns) = dns else { continue };
            let model = models.next();
            if let Some(updates) = &dns.rfc2136
                && let key = view.key.sibling(updates.tsig_secret_ref.name.as_str())
                && let Some(Err(error)) = set.core("Secret", &key).map(tsig_key)
            {
                let field = format!("spec.outputs[{index}].dns.rfc2136.tsigSecretRef.name");
                let message = format!("Secret {}: {error}", key.name);
                let remedy = "make a Secret of the type mailfailover.io/tsig with the keys name and secret";
                findings.add(&SECRET_NOT_FOR_TSIG, view.manifest, &field, message, remedy);
            }
            if let Some(api) = &dns.api
                && let key = view.key.sibling(api.secret_ref.name.as_str())
                && let Some(manifest) = set.core("Secret", &key)
                && let Some(defect) = api_secret_defect(manifest, model)
            {
                let field = format!("spec.outputs[{index}].dns.api.secretRef.name");
                let message = format!("Secret {}: {defect}", key.name);
                let remedy =
                    "make a Secret of the type mailfailover.io/dns-api with the keys of the provider (docs/dns.md)";
                findings.add(&SECRET_NOT_FOR_DNS_API, view.manifest, &field, message, remedy);
            }
            let ttl = model.map_or(LONG, |model| Duration::from_secs(u64::from(model.ttl)));
            let field = format!("spec.outputs[{index}].dns.ttl");
            let longer = format!("caches keep the records of the failed backend for up to {} s", ttl.as_secs());
            match objective {
                Some(objective) if ttl > objective => {
                    let message = format!("{longer}; objectives.recoveryTime is {} s", objective.as_secs_f64());
                    let remedy = "set a shorter ttl, or a longer objective";
                    findings.add(&TTL_OUTLASTS_OBJECTIVE, view.manifest, &field, message, remedy);
                }
                None if ttl > LONG => {
                    findings.add(&LONG_TTL, view.manifest, &field, longer, "set a ttl of a minute or so");
                }
                Some(_) | None => {}
            }
        }
        let is_any_awaited = outputs.iter().flatten().any(|dns| dns.r#await == Some(true));
        if outputs.iter().all(Option::is_some) && !is_any_awaited {
            let message =
                "nobody waits for the records: the route is Ready, and a failover is over, before any has changed";
            let remedy = "set await: true for the records that mail follows";
            findings.add(&NO_DNS_AWAITED, view.manifest, "spec.outputs", message.to_owned(), remedy);
        }
    }
}

/// The Secret as the operator would read it. What is no base64 counts as empty.
fn tsig_key(manifest: &Manifest) -> Result<TsigKey, TsigSecretError> {
    TsigKey::parse(secret_type(manifest), &secret_data(manifest))
}

/// Defect of the Secret for the API that an output names.
fn api_secret_defect(manifest: &Manifest, output: Option<&DnsOutput>) -> Option<String> {
    let secret = match DnsApiSecret::parse(secret_type(manifest), &secret_data(manifest)) {
        Ok(secret) => secret,
        Err(error) => return Some(error.to_string()),
    };
    let DnsProvider::Api(api) = &output?.provider else { return None };
    secret.lacks(&api.service).map(|key| ApiError::NoCredential(key).to_string())
}

fn secret_type(manifest: &Manifest) -> Option<&str> {
    manifest.value().get("type").and_then(Value::as_str)
}

fn secret_data(manifest: &Manifest) -> BTreeMap<String, Vec<u8>> {
    let mut data = BTreeMap::new();
    for (key, value) in texts(manifest, "data") {
        data.insert(key, STANDARD.decode(value).unwrap_or_default());
    }
    for (key, value) in texts(manifest, "stringData") {
        data.insert(key, value.as_bytes().to_vec());
    }
    data
}

fn texts<'a>(manifest: &'a Manifest, field: &str) -> Vec<(String, &'a str)> {
    let pairs = manifest.value().get(field).and_then(Value::as_object);
    pairs.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?))).collect()
}
