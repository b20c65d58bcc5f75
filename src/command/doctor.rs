//! `muster doctor`.

use serde_json::{Value, json};

use super::checks::{self, Check, CheckResult};
use super::examined::{self, Examined};
use super::gateway_side::{self, GatewaySideOptions};
use super::object::{name, namespace};
use super::print::DataFormat;
use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};
use super::targets::{self, Target};
use super::tree::kind;
use super::tree_text::{board_of, gateway_of};

/// The options of `muster doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorOptions {
    /// A kind (agent, board or gateway) and names of objects, or KIND/NAME for each object.
    #[arg(value_name = "KIND NAME", required = true, num_args = 1..)]
    words: Vec<String>,
    /// Print the checks for a program.
    #[arg(long, short, value_name = "FORMAT", value_enum)]
    output: Option<DataFormat>,
    #[command(flatten)]
    gateway_side: GatewaySideOptions,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

impl DoctorOptions {
    /// The objects to look at.
    fn targets(&self) -> Result<Vec<Target>, String> {
        let targets = targets::parse(&self.words)?;
        if targets.iter().any(|target| !target.resource.is_of_muster() || target.names.is_empty()) {
            return Err("give agent NAME, board NAME or gateway NAME".into());
        }
        Ok(targets)
    }

    /// Checks what the parser of the command line cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        self.targets().and_then(|_| self.gateway_side.check())
    }
}

pub(super) async fn run(
    options: &DoctorOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    options.check().map_err(CommandError::Usage)?;
    let targets = options.targets().map_err(CommandError::Usage)?;
    let (mut examined, mut missing) = (Vec::<Examined>::new(), 0);
    for target in &targets {
        let path = ObjectPath { resource: target.resource, namespace: Some(&cluster.namespace) };
        for name in &target.names {
            match path.get(&cluster.client, name).await {
                Ok(object) => examine(object, cluster, &mut examined).await?,
                Err(error) => {
                    streams.note(&error.to_string());
                    missing += 1;
                }
            }
        }
    }
    if options.gateway_side.is_wanted() {
        let seen = gateway_side::examine(&examined, &options.gateway_side, cluster, streams).await?;
        if seen.is_empty() {
            streams.note("there is no AgentGateway that could be read, and so no connection");
            missing += 1;
        }
        examined.extend(seen);
    }
    let wrong = examined.iter().flat_map(|one| &one.checks).filter(|check| check.result == CheckResult::Wrong).count();
    if let Some(format) = options.output {
        let objects: Value = examined.iter().map(Examined::data).collect();
        streams.print(&format.text(&json!({ "objects": objects })))?;
        return conclude(wrong + missing, "check");
    }
    streams.print(&examined::text(&examined))?;
    if wrong + missing == 0 {
        let waiting = examined.iter().flat_map(|one| &one.checks).filter(|check| check.result == CheckResult::Pending);
        return streams.print(match waiting.count() {
            0 => "\nNothing is wrong.\n",
            _ => "\nNothing is wrong so far. What waits is not known yet: run the command again.\n",
        });
    }
    if wrong > 0 {
        streams.print("\ndocs/troubleshooting.md has more about each reason.\n")?;
    }
    conclude(wrong + missing, "check")
}

/// Looks at what an object depends on, and then at the object: the first fault is often the cause of those after it.
pub(super) async fn examine(
    object: Value,
    cluster: &Cluster,
    examined: &mut Vec<Examined>,
) -> Result<(), CommandError> {
    let own_kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let board = match board_of(&object) {
        Some(key) => follow("Board", &key, (&own_kind, "BoardNotFound"), cluster, examined).await?,
        None => None,
    };
    let owner = board.as_ref().unwrap_or(&object);
    let gateway = match gateway_of(owner) {
        Some(key) => {
            let kind = owner["kind"].as_str().unwrap_or_default();
            follow("AgentGateway", &key, (kind, "GatewayNotFound"), cluster, examined).await?
        }
        None => None,
    };
    for object in gateway.into_iter().chain(board).chain([object]) {
        if !examined::is_among(&object, examined) {
            let mut checks = checks::of_object(&object);
            checks.extend(secrets(&object, cluster).await?);
            examined.push(Examined::new(object, None, checks));
        }
    }
    Ok(())
}

/// Reads an object that another one names. If it cannot be read, that is a check of its own.
async fn follow(
    word: &str,
    (place, name): &(String, String),
    (kind_of_reason, reason): (&str, &str),
    cluster: &Cluster,
    examined: &mut Vec<Examined>,
) -> Result<Option<Value>, CommandError> {
    let path = ObjectPath { resource: kind(word)?, namespace: Some(place) };
    let check = match path.get(&cluster.client, name).await {
        Ok(object) => return Ok(Some(object)),
        Err(error @ RequestError::Unanswered(_)) => return Err(error.into()),
        Err(error) if error.code() == Some(404) => Check::missing(kind_of_reason, reason),
        Err(error) => {
            let next_step = "Ask for the right to read it, or have its owner run muster doctor.";
            Check::new("exists", CheckResult::Pending, error.to_string(), next_step)
        }
    };
    let object = json!({ "kind": word, "metadata": { "namespace": place, "name": name } });
    if !examined::is_among(&object, examined) {
        examined.push(Examined::new(object, None, vec![check]));
    }
    Ok(None)
}

/// Whether the Secrets that an object names are there. Their values are not looked at.
async fn secrets(object: &Value, cluster: &Cluster) -> Result<Vec<Check>, CommandError> {
    let mut found = Vec::new();
    let is_agent = object["kind"] == "Agent";
    for (field, secret, key) in checks::secrets_of(object) {
        let path = ObjectPath { resource: kind("secrets")?, namespace: Some(namespace(object)) };
        let title = format!("Secret {secret}");
        let next_step = if is_agent {
            format!("muster rotate agent {}: Muster then writes a new token.", name(object))
        } else {
            format!("Create the Secret or the key, or correct {field}.")
        };
        found.push(match path.get(&cluster.client, &secret).await {
            Ok(secret) if key.is_empty() || secret["data"][&key].is_string() => {
                Check::new(&title, CheckResult::Good, "exists", "")
            }
            Ok(_) => {
                Check::new(&title, CheckResult::Wrong, format!("it has no key {key}, which {field} names"), &next_step)
            }
            Err(error @ RequestError::Unanswered(_)) => return Err(error.into()),
            Err(error) if error.code() == Some(404) => {
                Check::new(&title, CheckResult::Wrong, format!("it does not exist; {field} names it"), &next_step)
            }
            Err(error) => Check::new(&title, CheckResult::Pending, error.to_string(), "Look at it with other rights."),
        });
    }
    Ok(found)
}
