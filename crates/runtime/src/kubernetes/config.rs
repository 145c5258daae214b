//! Configuration of the API server's clients.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Reason for which no API server can be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The kubeconfig that was given cannot be used.
    #[error("the kubeconfig {} cannot be used: {source}; give a readable one with --kubeconfig, or leave it out to use KUBECONFIG, ~/.kube/config or the pod's service account", path.display())]
    Kubeconfig {
        /// Path of the kubeconfig.
        path: PathBuf,
        /// Error of reading it.
        source: KubeconfigError,
    },
    /// No kubeconfig was given and none was found.
    #[error(
        "no way to reach an API server: {0}; give a kubeconfig with --kubeconfig or KUBECONFIG, or run in a pod with a mounted service account token"
    )]
    Inferred(#[from] InferConfigError),
}

/// Loads the configuration from this kubeconfig; without one from `KUBECONFIG`, `~/.kube/config` or the pod's service
/// account, in this order.
///
/// # Errors
/// [`ConfigError`] if none of them can be used.
pub async fn config(kubeconfig: Option<&Path>) -> Result<Config, ConfigError> {
    let Some(path) = kubeconfig else { return Ok(Config::infer().await?) };
    from_file(path).await.map_err(|source| ConfigError::Kubeconfig { path: path.to_owned(), source })
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_the_remedy() {
        let error = config(Some(Path::new("/nowhere/kubeconfig"))).await.expect_err("there is no such file");
        let message = error.to_string();
        assert!(message.contains("/nowhere/kubeconfig") && message.contains("--kubeconfig"), "{message}");
    }
}
