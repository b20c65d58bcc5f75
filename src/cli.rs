//! The `muster` command.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::api::crds;
use crate::command::{ClusterCommand, CommandError, EXIT_STATUS};
use crate::options::RunOptions;
use crate::{app, command, export, import};

/// A Kubernetes operator for AI agents that run on OpenClaw gateways.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator until SIGTERM or Ctrl-C.
    Run(Box<RunOptions>),
    /// Write manifests for the existing agents of a gateway to standard output. Applying the manifests adopts the agents and
    /// changes nothing on the gateway.
    Import(Box<import::ImportOptions>),
    /// Write the AgentGateways, Boards and Agents of a cluster as manifests that another cluster takes. Agents keep the ids of their
    /// agents. The command only reads.
    Export(Box<export::ExportOptions>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// The commands for people.
    #[command(flatten)]
    Cluster(ClusterCommand),
}

/// Runs the command that the arguments name.
///
/// # Errors
/// A sentence about the cause of the failure.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Run(options) => app::main(&options),
        Command::Import(options) => import::main(&options),
        Command::Export(options) => export::main(&options),
        Command::Crds => {
            print!("{}", crds_yaml()?);
            Ok(())
        }
        Command::Cluster(command) => match command::main(&command) {
            // Ends the process with the exit status of a wrong command line.
            Err(CommandError::Usage(text)) => Cli::command().error(ErrorKind::ValueValidation, text).exit(),
            outcome => Ok(outcome?),
        },
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
