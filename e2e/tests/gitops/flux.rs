//! Flux on the node: images of its two controllers, their resource definitions, and the effect of
//! `flux reconcile`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::control_plane::{Binaries, Product, Program};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::go_module::{self, GoModule};
use mail_failover_e2e::node::images::Recipe;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The namespace of Flux, as users have it.
pub const NAMESPACE: &str = "flux-system";
/// A time limit longer than fetching, applying and waiting take on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(150);
const SOURCE: &str = "localhost/source-controller:e2e";
const KUSTOMIZE: &str = "localhost/kustomize-controller:e2e";
const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";

/// The image of source-controller.
pub fn source_controller() -> Recipe {
    Recipe {
        name: SOURCE,
        bases: &[],
        key: || Ok(Product::SourceController.version().to_owned()),
        assemble: |folder| assemble(folder, Program::SourceController),
        arguments: &[],
    }
}

/// The image of kustomize-controller.
pub fn kustomize_controller() -> Recipe {
    Recipe {
        name: KUSTOMIZE,
        bases: &[],
        key: || Ok(Product::KustomizeController.version().to_owned()),
        assemble: |folder| assemble(folder, Program::KustomizeController),
        arguments: &[],
    }
}

fn assemble(folder: &Path, program: Program) -> Result<()> {
    let binaries = Binaries::locate(&[program])?;
    fs::copy(binaries.path(program)?, folder.join("controller"))?;
    let dockerfile = "FROM scratch\nCOPY controller /controller\nUSER 65534:65534\nENTRYPOINT [\"/controller\"]\n";
    fs::write(folder.join("Dockerfile"), dockerfile).context("cannot write a Dockerfile")
}

/// The sources of both controllers, with their resource definitions.
pub const MODULES: [GoModule; 2] = [
    GoModule { tools: "gitops", path: "github.com/fluxcd/source-controller" },
    GoModule { tools: "gitops", path: "github.com/fluxcd/kustomize-controller" },
];

/// Installs both controllers and waits until they are available.
pub async fn install(env: &TestEnv) -> Result<()> {
    let mut manifests = Vec::new();
    for module in MODULES {
        manifests.extend(go_module::manifests(&module.source()?.join("config/crd/bases"))?);
    }
    manifests.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }));
    apply(&env.client(), &manifests, Mode::Keep).await.context("Flux's resource definitions")?;
    let advertised = format!("--storage-adv-addr=source-controller.{NAMESPACE}.svc.cluster.local.");
    let mut manifests = controller("source-controller", SOURCE, &["--storage-path=/data", &advertised]);
    manifests.extend(controller("kustomize-controller", KUSTOMIZE, &["--requeue-dependency=2s"]));
    manifests.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "source-controller", "namespace": NAMESPACE },
        "spec": { "selector": { "app": "source-controller" }, "ports": [{ "port": 80, "targetPort": 9090 }] },
    }));
    apply(&env.client(), &manifests, Mode::Keep).await.context("Flux")?;
    for name in ["source-controller", "kustomize-controller"] {
        let deployment = format!("deployment/{name}");
        let arguments = ["rollout", "status", &deployment, "--namespace", NAMESPACE, "--timeout=140s"];
        env.kubectl_for(WAIT_TIMEOUT, &arguments).await?;
    }
    Ok(())
}

/// A Deployment as in Flux's own manifests, with one replica that needs no election, and with the
/// rights that Flux gives itself.
fn controller(name: &str, image: &str, arguments: &[&str]) -> Vec<Value> {
    let metadata = json!({ "name": name, "namespace": NAMESPACE });
    let arguments = [&["--watch-all-namespaces", "--log-level=info", "--events-addr="], arguments].concat();
    let container = json!({
        "name": "manager", "image": image, "imagePullPolicy": "Never", "args": arguments,
        "env": [
            { "name": "RUNTIME_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
            { "name": "TUF_ROOT", "value": "/tmp/.sigstore" },
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "readinessProbe": { "httpGet": { "path": "/readyz", "port": 9440 }, "periodSeconds": 1 },
        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }, { "name": "data", "mountPath": "/data" }],
    });
    let labels = json!({ "app": name });
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "selector": { "matchLabels": labels }, "strategy": { "type": "Recreate" },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "serviceAccountName": name, "terminationGracePeriodSeconds": 2,
                        "securityContext": { "fsGroup": 1337 }, "containers": [container],
                        "volumes": [{ "name": "tmp", "emptyDir": {} }, { "name": "data", "emptyDir": {} }],
                    },
                },
            },
        }),
    ]
}

fn api(env: &TestEnv, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(env.client(), NAMESPACE, &resource)
}

/// The API of `GitRepositories` in Flux's namespace.
pub fn git_repositories(env: &TestEnv) -> Api<DynamicObject> {
    api(env, "source.toolkit.fluxcd.io", "GitRepository")
}

/// The API of Kustomizations in Flux's namespace.
pub fn kustomizations(env: &TestEnv) -> Api<DynamicObject> {
    api(env, "kustomize.toolkit.fluxcd.io", "Kustomization")
}

/// The condition Ready of one of Flux's objects: status, and reason with message.
pub fn ready(object: &DynamicObject) -> (String, String) {
    let conditions = object.data["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let [status, reason, message] =
        ["status", "reason", "message"].map(|field| found.and_then(|ready| ready[field].as_str()).unwrap_or_default());
    (status.to_owned(), format!("{reason}: {message}"))
}

/// Requests a reconciliation like `flux reconcile`, waits until it is over, and returns the object.
pub async fn reconcile(api: &Api<DynamicObject>, name: &str) -> Result<DynamicObject> {
    let token = format!("{:x}", fastrand::u64(..));
    let annotated = json!({ "metadata": { "annotations": { REQUESTED: token } } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(annotated)).await.with_context(|| name.to_owned())?;
    eventually(WAIT_TIMEOUT, &format!("the reconciliation of {name}"), async || {
        let object = api.get(name).await?;
        // A request counts as handled from the beginning of its reconciliation.
        if object.data["status"]["lastHandledReconcileAt"] == token && is_over(&object) {
            return Ok(Some(object));
        }
        bail!("{:?}", ready(&object))
    })
    .await
}

/// Returns true if the conditions contain the result of the latest reconciliation.
fn is_over(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    let is_going_on = conditions.into_iter().flatten().any(|condition| {
        // This reason marks a failed reconciliation that will be retried.
        condition["type"] == "Reconciling" && condition["reason"] != "ProgressingWithRetry"
    });
    ["True", "False"].contains(&ready(object).0.as_str()) && !is_going_on
}

/// Has the source fetched, and waits until a Kustomization is Ready with this revision.
pub async fn wait_ready(env: &TestEnv, kustomization: &str, revision: &str) -> Result<()> {
    let sources = git_repositories(env);
    reconcile(&sources, super::platform::SOURCE).await?;
    eventually(WAIT_TIMEOUT, &format!("{revision} to be fetched"), async || {
        let source = sources.get(super::platform::SOURCE).await?;
        if source.data["status"]["artifact"]["revision"] == revision {
            return Ok(Some(()));
        }
        bail!("{:?}", ready(&source))
    })
    .await?;
    let api = kustomizations(env);
    eventually(WAIT_TIMEOUT, &format!("Kustomization {kustomization} to be Ready with {revision}"), async || {
        let object = api.get(kustomization).await?;
        let (status, why) = ready(&object);
        if status == "True" && object.data["status"]["lastAppliedRevision"] == revision {
            return Ok(Some(()));
        }
        bail!("{status} {why}")
    })
    .await
}
