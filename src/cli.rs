//! The `muster` command.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::api::crds;
use crate::run;

/// A Kubernetes operator for AI agents that run on OpenClaw gateways.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator until SIGTERM or Ctrl-C.
    Run(RunArgs),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

/// How the operator runs.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Kubeconfig file. Default: the pod's ServiceAccount in a cluster, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the HTTP API that agents call.
    #[arg(long, env = "MUSTER_API_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub api_addr: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MUSTER_PROBE_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub probe_addr: SocketAddr,
    /// How log lines are written.
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the command that the arguments name.
///
/// # Errors
/// A sentence about what did not work.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Crds => {
            print!("{}", crds_yaml()?);
            Ok(())
        }
    }
}

/// The CustomResourceDefinitions as one YAML stream.
///
/// # Errors
/// None in practice: the types serialize.
fn crds_yaml() -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::new();
    for (_, crd) in crds::all() {
        text.push_str("---\n");
        text.push_str(&crds::yaml(&crd)?);
    }
    Ok(text)
}
