//! The flags of a command line that name the sources, and the tasks that follow them.

use std::path::PathBuf;

use clap::Args;
use mail_failover_runtime::kubernetes::{self, ConnectError, Purpose};
use mail_failover_runtime::tasks::Tasks;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::{DocumentSource, ObjectReference, SourceMessage, follow_config_map, follow_file};

/// Name of the tasks that follow a source.
const SOURCE: &str = "a source";

/// Sources of a program that follows the document.
#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).multiple(true).args(["config_map", "config_file"])))]
pub struct SourceArguments {
    /// The ConfigMap that the operator writes for the route (output agent); needs get, list and watch on this one
    /// object.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub config_map: Option<ObjectReference>,

    /// The same document as a file: a mounted ConfigMap's, or one that something else keeps up to date.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// The kubeconfig for --config-map; without it KUBECONFIG, ~/.kube/config or the pod's service account.
    #[arg(long, value_name = "FILE", requires = "config_map")]
    pub kubeconfig: Option<PathBuf>,
}

impl SourceArguments {
    /// The sources that are named.
    pub fn sources(&self) -> Vec<DocumentSource> {
        let config_map = self.config_map.iter().map(|object| DocumentSource::ConfigMap(object.to_string()));
        let file = self.config_file.iter().map(|path| DocumentSource::File(path.display().to_string()));
        config_map.chain(file).collect()
    }

    /// Begins to follow them. The tasks end when nobody takes the events any more.
    ///
    /// # Errors
    /// When there is no way to reach an API server.
    pub async fn follow(
        &self,
        events: &mpsc::Sender<SourceMessage>,
        tasks: &mut Tasks,
        registry: &mut Registry,
    ) -> Result<(), ConnectError> {
        if let Some(object) = self.config_map.clone() {
            let metrics = kubernetes::Metrics::new(registry);
            let client = kubernetes::connect(self.kubeconfig.as_deref(), Purpose::Watch, &metrics).await?;
            tasks.spawn(SOURCE, follow_config_map(client, object, events.clone()));
        }
        if let Some(path) = self.config_file.clone() {
            tasks.spawn(SOURCE, follow_file(path, events.clone()));
        }
        Ok(())
    }
}
