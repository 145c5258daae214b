//! The cluster's name server: `CoreDNS`, as in every distribution.

use serde_json::{Value, json};

use super::images;
use crate::control_plane::namespace::NAME_SERVER;

/// The address of the name server's Service.
pub(super) const ADDRESS: &str = "10.96.0.10";
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const NAME: &str = "coredns";

/// The name server's objects, as a list for kubectl. Names outside of the cluster are asked of
/// [`NAME_SERVER`], which a test may run.
pub(super) fn objects() -> Value {
    let labels = json!({ "k8s-app": "kube-dns" });
    let corefile = format!(
        ".:1053 {{
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {{
        pods insecure
        ttl 5
    }}
    forward . {NAME_SERVER}
    loadbalance
}}
"
    );
    let metadata = json!({ "name": NAME, "namespace": NAMESPACE });
    let items = [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "system:coredns" },
            "rules": [
                { "apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"] },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "system:coredns" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }],
        }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "Corefile": corefile } }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "kube-dns", "namespace": NAMESPACE, "labels": labels },
            "spec": {
                "clusterIP": ADDRESS,
                "selector": labels,
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 1053 },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 1053 },
                ],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod() },
            },
        }),
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

fn pod() -> Value {
    json!({
        "serviceAccountName": NAME,
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        // No client needs a grace period at its end.
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": NAME,
            "image": images::coredns().name,
            "imagePullPolicy": "Never",
            "args": ["-conf", "/etc/coredns/Corefile"],
            "ports": [
                { "name": "dns", "containerPort": 1053, "protocol": "UDP" },
                { "name": "dns-tcp", "containerPort": 1053, "protocol": "TCP" },
            ],
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1 },
            "livenessProbe": { "httpGet": { "path": "/health", "port": 8080 }, "periodSeconds": 10, "failureThreshold": 6 },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "configuration", "mountPath": "/etc/coredns", "readOnly": true }],
        }],
        "volumes": [{ "name": "configuration", "configMap": { "name": NAME } }],
    })
}
