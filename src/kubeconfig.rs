//! How the commands find the API server.

use std::path::Path;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The config of a file or, without one, of the pod's ServiceAccount, `$KUBECONFIG` or `~/.kube/config`. `context` names a context of the
/// kubeconfig; without it, the current context counts.
///
/// # Errors
/// A sentence that names the file or the flag.
pub async fn load(file: Option<&Path>, context: Option<&str>) -> Result<Config, String> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    match file {
        Some(path) => {
            let failed = |e| format!("--kubeconfig {}: {e}", path.display());
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)
        }
        None if context.is_some() => Config::from_kubeconfig(&options).await.map_err(|e| format!("--context: {e}")),
        None => Config::infer().await.map_err(|e| {
            format!(
                "no kubeconfig in $KUBECONFIG or ~/.kube/config, and no ServiceAccount of a pod: {e}; give --kubeconfig"
            )
        }),
    }
}
