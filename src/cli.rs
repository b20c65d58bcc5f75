//! The `muster` command.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

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
    /// Render the workspace files of agents from manifests, without a cluster, with placeholders for tokens and ids.
    Render(command::RenderOptions),
    /// Show what the operator would do on a gateway for the Agents of manifests: entries, files, sessions, wakes. Nothing is written.
    Plan(Box<command::PlanOptions>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Print a script with which a shell completes the commands and their options.
    Completion {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// The commands for people.
    #[command(flatten)]
    Cluster(ClusterCommand),
}

/// The file name under which kubectl finds the command as its plugin.
const PLUGIN: &str = "kubectl-muster";

/// Whether kubectl, or a person, started the command as the plugin of kubectl.
fn is_plugin(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_stem()).is_some_and(|name| name == PLUGIN)
}

/// The command line, with the usage text of the program of this name.
fn command_line(program: Option<&OsStr>) -> clap::Command {
    let command = Cli::command();
    if is_plugin(program) { command.bin_name("kubectl muster") } else { command }
}

/// The script of a shell for the program of this name.
fn completion(shell: Shell, program: Option<&OsStr>) -> Vec<u8> {
    let name = if is_plugin(program) { PLUGIN } else { "muster" };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
    script
}

/// Runs the command that the arguments name.
///
/// # Errors
/// A sentence about the cause of the failure.
pub fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let program = std::env::args_os().next();
    let mut line = command_line(program.as_deref());
    let cli = Cli::from_arg_matches(&line.get_matches_mut()).unwrap_or_else(|error| error.format(&mut line).exit());
    let mut checked = |outcome: Result<ExitCode, CommandError>| match outcome {
        // Ends the process with the exit status of a wrong command line.
        Err(CommandError::Usage(text)) => line.error(ErrorKind::ValueValidation, text).exit(),
        outcome => Ok(outcome?),
    };
    match cli.command {
        Command::Import(options) if options.diff => {
            return checked(command::import_diff_main(&options).map(ExitCode::from));
        }
        Command::Plan(options) => return checked(command::plan_main(&options).map(ExitCode::from)),
        Command::Cluster(command) => return checked(command::main(&command).map(|()| ExitCode::SUCCESS)),
        Command::Run(options) => app::main(&options)?,
        Command::Import(options) => import::main(&options)?,
        Command::Export(options) => export::main(&options)?,
        Command::Crds => print!("{}", crds_yaml()?),
        Command::Render(options) => command::render_main(&options)?,
        Command::Completion { shell } => std::io::stdout().write_all(&completion(shell, program.as_deref()))?,
    }
    Ok(ExitCode::SUCCESS)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(program: &str, words: &[&str]) -> String {
        let words = [&[program], words].concat();
        command_line(Some(OsStr::new(program))).try_get_matches_from(words).unwrap_err().to_string()
    }

    #[test]
    fn as_a_plugin_of_kubectl_the_usage_text_has_kubectl_muster() {
        for program in ["kubectl-muster", "/usr/local/bin/kubectl-muster", "bin/kubectl-muster.exe"] {
            assert!(usage(program, &["--help"]).contains("Usage: kubectl muster <COMMAND>"), "{program}");
            let wrong = usage(program, &["rotate"]);
            assert!(wrong.contains("Usage: kubectl muster rotate <KIND [NAME]>..."), "{wrong}");
        }
        assert!(usage("/usr/bin/muster", &["--help"]).contains("Usage: muster <COMMAND>"));
    }

    #[test]
    fn each_shell_gets_a_script_with_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = |program: &str| String::from_utf8(completion(shell, Some(OsStr::new(program)))).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script("muster").contains(command.get_name()), "{shell} {}", command.get_name());
            }
            assert!(
                script("kubectl-muster").contains("kubectl-muster") && !script("muster").contains("kubectl-muster")
            );
        }
    }
}
