//! `muster support-bundle`: an archive that people attach to a bug report, without secrets.
//!
//! A part that cannot be read is a line in `errors.txt`. The command only reads.

mod archive;
mod contents;
mod named;
mod operator;
mod scrub;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::PathBuf;

use contents::{BundleContents, KeptPart};
use named::NamedObjects;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::examined::{self, Examined};
use super::object::{namespace, uid};
use super::observed::condition;
use super::requests::{self, ObjectPath};
use super::session::{self, Cluster, CommandError, ConnectionOptions, Streams};
use super::tree::{self, kind};
use super::tree_text::FleetObjects;
use super::{doctor, print};
use crate::openclaw::text_mask::TextMask;

/// The most objects that the checks look at. Boards and Agents that are Ready are left out.
const MAX_EXAMINED: usize = 200;

/// The options of `muster support-bundle`.
#[derive(Debug, clap::Args)]
pub struct SupportBundleOptions {
    /// New archive (NAME.tar.gz or NAME.tgz), or new folder with any other name. Default: muster-support-TIME.tar.gz.
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The objects of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Namespace of the operator, whose pods and logs belong to the bundle.
    #[arg(long, value_name = "NAMESPACE", default_value = "muster-system", value_parser = session::namespace)]
    operator_namespace: String,
    /// The last lines of the log of each pod.
    #[arg(long, value_name = "LINES", default_value_t = 5000)]
    log_lines: u32,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

pub(super) async fn run(
    options: &SupportBundleOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let now = (cluster.now)();
    let path = options
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("muster-support-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ"))));
    if archive::is_taken(&path) {
        let text = format!("--output {}: it exists, and a bundle replaces nothing; give another name", path.display());
        return Err(CommandError::Failed(text));
    }
    // Without an API server there is no bundle. Each later request may fail.
    let server = requests::read(&cluster.client, "/version").await?;
    let mut contents = BundleContents::default();
    let scope = (!options.all_namespaces).then_some(cluster.namespace.as_str());
    let fleet = objects(scope, cluster, &mut contents).await?;
    let facts = mask(&fleet, cluster, &mut contents).await?;
    add_versions(options, &server, cluster, &mut contents);
    add_objects(&fleet, &facts, &mut contents);
    add_events(&fleet, scope, cluster, &mut contents).await;
    add_checks(&fleet, cluster, &mut contents).await;
    operator::add(&options.operator_namespace, options.log_lines, cluster, &mut contents).await;
    let failures = contents.failures();
    let written = archive::write(&path, &contents.finish(), now);
    written.map_err(|error| CommandError::Failed(format!("--output {}: {error}", path.display())))?;
    if failures > 0 {
        let parts = if failures == 1 { "1 part".to_owned() } else { format!("{failures} parts") };
        streams.note(&format!("{parts} could not be read; errors.txt in the bundle has the causes"));
    }
    streams.note("look through the bundle before you share it; README.txt in it says what each file is");
    streams.print(&format!("{}\n", path.display()))
}

/// The AgentGateways, Boards and Agents, and the gateways of other namespaces that they refer to.
async fn objects(
    scope: Option<&str>,
    cluster: &Cluster,
    contents: &mut BundleContents,
) -> Result<FleetObjects, CommandError> {
    let mut fleet = FleetObjects::default();
    for (word, objects) in
        [("agentgateways", &mut fleet.gateways), ("boards", &mut fleet.boards), ("agents", &mut fleet.agents)]
    {
        let path = ObjectPath { resource: kind(word)?, namespace: scope };
        let answer = path.list(&cluster.client, None).await;
        *objects = contents.read(word, answer).unwrap_or_default();
    }
    if let Err(error) = tree::find_gateways(&mut fleet, cluster).await {
        contents.fail("agentgateways of other namespaces", &error.to_string());
    }
    Ok(fleet)
}

/// What is known of the Secrets and the ConfigMaps that the objects name. Sets the mask: from here on, texts can be added.
async fn mask(
    fleet: &FleetObjects,
    cluster: &Cluster,
    contents: &mut BundleContents,
) -> Result<[Vec<Value>; 2], CommandError> {
    let (mut secrets, mut config_maps) = (NamedObjects::new(), NamedObjects::new());
    let mut known: Vec<SecretString> = Vec::new();
    for object in all(fleet) {
        named::secrets_of(object, &mut secrets);
        named::config_maps_of(object, &mut config_maps);
        known.extend(scrub::known_values(object));
    }
    let client = &cluster.client;
    let secrets = named::read(kind("secrets")?, &secrets, client, contents, &mut known).await;
    let config_maps = named::read(kind("configmaps")?, &config_maps, client, contents, &mut known).await;
    contents.set_mask(TextMask::new(&known));
    Ok([secrets, config_maps])
}

fn all(fleet: &FleetObjects) -> impl Iterator<Item = &Value> {
    fleet.gateways.iter().chain(&fleet.boards).chain(&fleet.agents)
}

fn add_versions(options: &SupportBundleOptions, server: &Value, cluster: &Cluster, contents: &mut BundleContents) {
    let place = if options.all_namespaces { "all" } else { &cluster.namespace };
    let versions = json!({
        "made": (cluster.now)().to_string(),
        "muster": env!("CARGO_PKG_VERSION"),
        "kubernetes": server["gitVersion"],
        "namespace": place,
        "operatorNamespace": options.operator_namespace,
    });
    let description = "the version of this command and of the API server, and the namespaces";
    contents.add_value("versions.yaml", description, &versions);
}

fn add_objects(fleet: &FleetObjects, [secrets, config_maps]: &[Vec<Value>; 2], contents: &mut BundleContents) {
    for (name, objects) in [("agentgateways", &fleet.gateways), ("boards", &fleet.boards), ("agents", &fleet.agents)] {
        let objects: Vec<_> = objects.iter().map(|object| scrub::scrubbed(object, contents.mask())).collect();
        contents.add_scrubbed(&format!("{name}.yaml"), &format!("the {name}"), &print::list(&objects));
    }
    for (name, facts) in [("secrets", secrets), ("configmaps", config_maps)] {
        let description = format!("the {name} that the objects name: keys and sizes, no values");
        contents.add_value(&format!("{name}.yaml"), &description, &json!(facts));
    }
}

/// Adds the events about the objects.
async fn add_events(fleet: &FleetObjects, scope: Option<&str>, cluster: &Cluster, contents: &mut BundleContents) {
    let uids: BTreeSet<_> = all(fleet).map(uid).collect();
    let mut places: Vec<Option<&str>> = vec![scope];
    if scope.is_some() {
        // The events of gateways in other namespaces.
        places = all(fleet).map(namespace).chain(scope).collect::<BTreeSet<_>>().into_iter().map(Some).collect();
    }
    let mut found = Vec::new();
    for place in places {
        for kind in ["AgentGateway", "Board", "Agent"] {
            let answer = requests::select_events(&cluster.client, place, &format!("regarding.kind={kind}")).await;
            let what = format!("events about {kind}s{}", place.map(|name| format!(" in {name}")).unwrap_or_default());
            let events = contents.read(&what, answer).unwrap_or_default();
            found.extend(
                events
                    .into_iter()
                    .filter(|event| uids.contains(event["regarding"]["uid"].as_str().unwrap_or_default())),
            );
        }
    }
    found.sort_by_cached_key(|event| Reverse(event["eventTime"].as_str().unwrap_or_default().to_owned()));
    let events: Vec<_> = found.iter().map(|event| scrub::scrubbed(event, contents.mask())).collect();
    contents.add_scrubbed("events.yaml", "the events about these objects, the newest first", &print::list(&events));
}

/// Adds what `muster tree` and `muster doctor` print. The checks look at the gateways, and at the Boards and the Agents that are not Ready.
async fn add_checks(fleet: &FleetObjects, cluster: &Cluster, contents: &mut BundleContents) {
    let tree = tree::text(fleet, None, true, (cluster.now)());
    contents.add("tree.txt", "the output of muster tree -o wide", &tree, KeptPart::Beginning);
    let is_ready = |object: &&Value| condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
    let others = fleet.boards.iter().chain(&fleet.agents).filter(|object| !is_ready(object));
    let targets: Vec<_> = fleet.gateways.iter().chain(others).collect();
    if targets.len() > MAX_EXAMINED {
        contents.fail("doctor.txt", &format!("only {MAX_EXAMINED} of {} objects were examined", targets.len()));
    }
    let mut examined = Vec::new();
    for object in targets.into_iter().take(MAX_EXAMINED) {
        if let Err(error) = doctor::examine(object.clone(), cluster, &mut examined).await {
            contents.fail("doctor.txt", &error.to_string());
            break;
        }
    }
    mask_checks(&mut examined, contents.mask());
    let description = "the output of muster doctor for the AgentGateways, and for Boards and Agents that are not Ready";
    contents.add("doctor.txt", description, &examined::text(&examined), KeptPart::Beginning);
}

/// Removes secrets from the texts of checks. This comes before the layout, which cuts texts into lines.
fn mask_checks(examined: &mut [Examined], mask: &TextMask) {
    for check in examined.iter_mut().flat_map(|one| &mut one.checks) {
        for text in [&mut check.found, &mut check.meaning, &mut check.next_step] {
            *text = mask.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::checks::{Check, CheckResult};

    #[test]
    fn a_secret_across_the_end_of_a_line_is_removed() {
        let words = "word ".repeat(16);
        for secret in ["the \"password\": \"Correct Horse Battery Staple\"", "said known Secret With Blanks"] {
            let check = Check::new("Ready", CheckResult::Wrong, format!("{words}{secret} end"), secret);
            let object = json!({ "kind": "Agent", "metadata": { "namespace": "fleet", "name": "one" } });
            let mut examined = vec![Examined::new(object, None, vec![check])];
            let mask = TextMask::new([&SecretString::from("known Secret With Blanks")]);
            mask_checks(&mut examined, &mask);
            let text = examined::text(&examined);
            for part in ["Horse", "Battery", "Staple", "Secret", "Blanks"] {
                assert!(!text.contains(part), "{text}");
            }
        }
    }
}
