//! The state that all trials share, created by the first one: Flux, a Git repository, and the
//! operator that a commit has installed.
//!
//! Each trial has a folder of the repository, and a Kustomization for it, to itself. Both are those
//! of `config/flux/example.yaml`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::ResourceExt;
use kube::api::DeleteParams;
use mail_failover_api::crds;
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, WAIT_TIMEOUT, backend, policy, route};
use mail_failover_e2e::helm::{objects, repository};
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::node::images;
use mail_failover_e2e::service_account;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::flux;
use super::git::Repository;

/// The name of the source in `config/flux/example.yaml`.
pub const SOURCE: &str = "fleet";
pub const OPERATOR: &str = "mail-failover-operator";
const MAIL: &str = "mail";
/// The namespace of the installation by `config/base`.
pub const OPERATOR_NAMESPACE: &str = "mail-failover";

static PLATFORM: OnceCell<Platform> = OnceCell::const_new();

/// Flux, the Git repository and the operator, shared by all trials.
pub struct Platform {
    pub repository: Repository,
    /// The revision of the operator's commit.
    pub revision: String,
    _folder: TempDir,
}

impl Platform {
    /// The platform of this suite, created by the first call.
    pub async fn get(env: &TestEnv) -> Result<&'static Self> {
        PLATFORM.get_or_try_init(async || Self::set(env).await).await
    }

    async fn set(env: &TestEnv) -> Result<Self> {
        // The suite has installed the definitions already; here they must come from Git.
        let definitions: Api<CustomResourceDefinition> = Api::all(env.client());
        for crd in crds() {
            let name = crd.name_any();
            if definitions.get_opt(&name).await?.is_some() {
                definitions.delete(&name, &DeleteParams::default()).await?;
            }
            eventually(WAIT_TIMEOUT, &format!("{name} to be gone"), async || {
                Ok(definitions.get_opt(&name).await?.is_none().then_some(()))
            })
            .await?;
        }
        flux::install(env).await?;
        let folder = tempfile::Builder::new().prefix("gitops-").tempdir().context("no temporary folder")?;
        let repository = Repository::serve(folder.path(), SocketAddr::new(env.ipv4(), 8080)).await?;
        copy_base(&repository.folder(OPERATOR))?;
        let revision = repository.commit("Install the operator").await?;

        let mut source = example("GitRepository", SOURCE)?;
        source["spec"]["url"] = repository.url().into();
        let mut operator = example("Kustomization", OPERATOR)?;
        let (name, tag) = images::OPERATOR.rsplit_once(':').context("a tag")?;
        operator["spec"]["images"] = json!([{ "name": "mail-failover-operator", "newName": name, "newTag": tag }]);
        apply(&env.client(), &[source, operator], Mode::Keep).await?;
        flux::wait_ready(env, OPERATOR, &revision).await?;
        Ok(Self { repository, revision, _folder: folder })
    }

    /// The operator's user at the API server.
    pub fn operator_user() -> String {
        service_account::user(OPERATOR_NAMESPACE, OPERATOR)
    }
}

/// Copies `config/base` as a user would into a repository of their own.
fn copy_base(to: &PathBuf) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(repository("config/base"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// An object of the example.
fn example(kind: &str, name: &str) -> Result<Value> {
    let objects = objects(&fs::read_to_string(repository("config/flux/example.yaml"))?)?;
    let found = objects.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.with_context(|| format!("the example has no {kind} {name}"))
}

/// A trial's share of the platform: the route `orders` over `primary` and `standby`, in its namespace, by a commit.
pub struct GitShop<'a> {
    env: &'a TestEnv,
    pub platform: &'static Platform,
    pub primary: SmtpServer,
    pub standby: SmtpServer,
    /// The name of the Kustomization.
    pub kustomization: String,
    folder: PathBuf,
}

impl<'a> GitShop<'a> {
    /// Commits the share, and waits until Flux finds it Ready.
    pub async fn open(env: &'a TestEnv) -> Result<Self> {
        let platform = Platform::get(env).await?;
        let primary = SmtpServer::start(Options::new("primary", (env.ipv4(), 25).into())).await?;
        let standby = SmtpServer::start(Options::new("standby", (env.ipv4(), 25).into())).await?;
        let kustomization = env.namespace().to_owned();
        let folder = platform.repository.folder(&kustomization);
        fs::create_dir_all(&folder)?;
        let timings = PolicyTimings::default();
        fs::write(folder.join("policy.yaml"), policy(&timings))?;
        fs::write(folder.join("primary.yaml"), backend("primary", primary.address(), &timings))?;
        fs::write(folder.join("standby.yaml"), backend("standby", standby.address(), &timings))?;
        fs::write(folder.join("route.yaml"), route("orders", &["primary", "standby"], "mail"))?;
        let shop = Self { env, platform, primary, standby, kustomization, folder };
        let revision = platform.repository.commit("Add a route").await?;
        let mut mail = example("Kustomization", MAIL)?;
        mail["metadata"]["name"] = shop.kustomization.as_str().into();
        mail["spec"]["path"] = format!("./{}", shop.kustomization).into();
        mail["spec"]["targetNamespace"] = env.namespace().into();
        mail["spec"]["interval"] = "30s".into();
        mail["spec"]["retryInterval"] = "5s".into();
        mail["spec"]["timeout"] = "1m".into();
        apply(&env.client(), &[mail], Mode::Keep).await?;
        flux::wait_ready(env, &shop.kustomization, &revision).await?;
        Ok(shop)
    }

    /// Removes a file, commits, and waits until Flux has applied that.
    pub async fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.folder.join(file))?;
        let revision = self.platform.repository.commit(&format!("Remove {file}")).await?;
        flux::wait_ready(self.env, &self.kustomization, &revision).await
    }

    /// Removes the Kustomization, and so all that it applied, and waits until it is gone.
    pub async fn close(&self) -> Result<()> {
        let api = flux::kustomizations(self.env);
        api.delete(&self.kustomization, &DeleteParams::default()).await?;
        eventually(WAIT_TIMEOUT, &format!("Kustomization {} to be gone", self.kustomization), async || {
            match api.get_opt(&self.kustomization).await? {
                None => Ok(Some(())),
                Some(object) => bail!("{:?}, finalizers {:?}", flux::ready(&object), object.finalizers()),
            }
        })
        .await
    }

    /// The number of Flux's reconciliations of it. The revision stays the same.
    pub async fn reconciliations(&self) -> Result<u64> {
        let object = flux::kustomizations(self.env).get(&self.kustomization).await?;
        let latest = &object.data["status"]["history"][0];
        ensure!(latest["lastReconciledStatus"] == "ReconciliationSucceeded", "{latest}");
        latest["totalReconciliations"].as_u64().with_context(|| latest.to_string())
    }
}
