//! Rights of the operator and of the agents beside MTAs at the API server, as RBAC rules. No other place states them.
//!
//! The rules of the Helm chart (`charts/mail-failover-operator/files/`), of `config/` and of
//! `examples/postfix-agent/rbac.yaml` are generated from here or compared with it (`tests/manifests.rs`).
//! `e2e/tests/install/` compares them with the calls that are really made: a refused call fails there, and so does an
//! unused right. This module does no I/O.

use std::fmt::Write as _;

use mail_failover_api::GROUP;

/// Rule of a Role or `ClusterRole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RbacRule {
    /// Sentence that says what the rule is for; it is printed above the rule.
    pub purpose: &'static str,
    /// `apiGroups` of the rule: one group, empty for the core group.
    pub api_group: &'static str,
    /// `resources` of the rule, with subresources as RBAC writes them: `mailroutes/status`.
    pub resources: &'static [&'static str],
    /// `verbs` that the rule allows.
    pub verbs: &'static [&'static str],
}

/// Rights in every namespace that the operator watches: a `ClusterRole`, or a Role in each.
///
/// Secrets are missing on purpose. A certificate authority that a `SendingBackend` takes from a Secret, and a login of
/// its probes, need `get` on that Secret by name ([`SECRETS_BY_NAME`]). Only the owner of the Secret can grant that.
pub const WATCHED: &[RbacRule] = &[
    RbacRule {
        purpose: "The resources that say where mail may leave.",
        api_group: GROUP,
        resources: &["failoverpolicies", "mailroutes", "sendingbackends"],
        verbs: &["get", "list", "watch"],
    },
    RbacRule {
        purpose: "What was decided and observed.",
        api_group: GROUP,
        resources: &["failoverpolicies/status", "mailroutes/status", "sendingbackends/status"],
        verbs: &["patch"],
    },
    RbacRule {
        purpose: "The outputs `service`, and the Services of backends in the cluster.",
        api_group: "",
        resources: &["services"],
        verbs: &["create", "delete", "get", "list", "patch", "watch"],
    },
    RbacRule {
        purpose: "Where the outputs `service` lead, and where the Services of backends in the cluster do.",
        api_group: "discovery.k8s.io",
        resources: &["endpointslices"],
        verbs: &["create", "delete", "get", "list", "patch", "watch"],
    },
    RbacRule {
        purpose: "The outputs `configMap` and `agent`, and certificate authorities in ConfigMaps.",
        api_group: "",
        resources: &["configmaps"],
        verbs: &["create", "delete", "get", "list", "patch", "watch"],
    },
    RbacRule {
        purpose: "Events about failovers, failbacks and what prevents them.",
        api_group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create"],
    },
];

/// Rights on named Secrets, for the certificate authorities, the logins and the secrets of webhooks and receivers, and the TSIG keys in them.
// ADR-0062: No Secret is readable by default.
pub const SECRETS_BY_NAME: RbacRule = RbacRule {
    purpose: "The Secrets of certificate authorities (`smtp.tls.caRef`) of logins for probes in process (`smtp.auth.secretRef`), of webhooks (`webhook.secretRef`), of DNS updates (`dns.rfc2136.tsigSecretRef`) and the APIs of DNS providers (`dns.api.secretRef`), and of receivers of notifications, by name.",
    api_group: "",
    resources: &["secrets"],
    verbs: &["get"],
};

/// Rights in every namespace that the operator watches, when it runs probes with `job` (`--probe-image`). RBAC cannot
/// narrow pods to those of probes.
// ADR-0063: Probe Jobs are off by default.
pub const PROBE_JOBS: &[RbacRule] = &[
    RbacRule {
        purpose: "The Jobs of probes with `job`.",
        api_group: "batch",
        resources: &["jobs"],
        verbs: &["create", "delete", "get", "list", "watch"],
    },
    RbacRule {
        purpose: "What the pods of these Jobs have seen.",
        api_group: "",
        resources: &["pods"],
        verbs: &["list", "watch"],
    },
];

/// Rights in every namespace that the operator watches, for outputs `dns` that external-dns publishes
/// (`dns.dnsEndpoint`).
// ADR-0175: external-dns is led by an object that is looked at, as a zone is.
pub const DNS_ENDPOINTS: &[RbacRule] = &[RbacRule {
    purpose: "The objects by which external-dns publishes the records of outputs `dns`.",
    api_group: "externaldns.k8s.io",
    resources: &["dnsendpoints"],
    verbs: &["create", "get", "patch"],
}];

/// Rights in the operator's own namespace (`--lease-namespace`).
pub const OWN_NAMESPACE: &[RbacRule] = &[RbacRule {
    purpose: "Who leads, and what each replica sees.",
    api_group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
}];

/// Rights in the cluster, which no Role can grant; not needed with `--without-reports`.
pub const REPORTS: &[RbacRule] = &[RbacRule {
    purpose: "Whose token an agent shows with its report of real mail.",
    api_group: "authentication.k8s.io",
    resources: &["tokenreviews"],
    verbs: &["create"],
}];

/// Rights of an agent on the one `ConfigMap` that is named.
pub const AGENT: RbacRule = RbacRule {
    purpose: "The one ConfigMap that the operator writes for the agent, by name.",
    api_group: "",
    resources: &["configmaps"],
    verbs: &["list", "watch"],
};

/// Formats rules as YAML: a list for `rules`, each under its purpose.
pub fn yaml(rules: &[RbacRule]) -> String {
    rules.iter().fold(String::new(), |mut text, rule| {
        let RbacRule { purpose, api_group, resources, verbs } = rule;
        let group = if api_group.is_empty() { "\"\"" } else { api_group };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {purpose}\n- apiGroups: [{group}]");
        let _ = writeln!(text, "  resources: [{}]\n  verbs: [{}]", resources.join(", "), verbs.join(", "));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_rbac_has_them() {
        assert_eq!(
            yaml(&[SECRETS_BY_NAME, REPORTS[0]]),
            "# The Secrets of certificate authorities (`smtp.tls.caRef`) of logins for probes in process (`smtp.auth.secretRef`), of webhooks (`webhook.secretRef`), of DNS updates (`dns.rfc2136.tsigSecretRef`) and the APIs of DNS providers (`dns.api.secretRef`), and of receivers of notifications, by name.\n\
             - apiGroups: [\"\"]\n  resources: [secrets]\n  verbs: [get]\n\
             # Whose token an agent shows with its report of real mail.\n\
             - apiGroups: [authentication.k8s.io]\n  resources: [tokenreviews]\n  verbs: [create]\n"
        );
    }

    #[test]
    fn nothing_is_granted_by_a_wildcard_nor_twice() {
        let all = || WATCHED.iter().chain(PROBE_JOBS).chain(DNS_ENDPOINTS).chain(OWN_NAMESPACE).chain(REPORTS);
        let mut granted: Vec<_> =
            all().flat_map(|rule| rule.resources.iter().map(move |resource| (rule.api_group, *resource))).collect();
        assert!(all().all(|rule| !rule.verbs.contains(&"*") && !rule.resources.contains(&"*")));
        assert!(all().all(|rule| rule.verbs.is_sorted() && rule.resources.is_sorted()));
        let count = granted.len();
        granted.sort_unstable();
        granted.dedup();
        assert_eq!(granted.len(), count);
    }
}
