//! `muster describe`.

use super::describe_text;
use super::object::{namespace, uid};
use super::requests::{self, ObjectPath};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};
use super::targets::{self, Target};

/// The namespace of events about objects that have none.
const EVENTS_OF_CLUSTER: &str = "default";

/// The options of `muster describe`.
#[derive(Debug, clap::Args)]
pub struct DescribeOptions {
    /// A kind and names of objects, or KIND/NAME for each object. Without a name, all objects of the kind.
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1..)]
    words: Vec<String>,
    /// Describe only objects with these labels, such as team=ops.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

impl DescribeOptions {
    /// The objects to describe.
    pub(super) fn targets(&self) -> Result<Vec<Target>, String> {
        let targets = targets::parse(&self.words)?;
        if self.selector.is_some() && targets.iter().any(|target| !target.names.is_empty()) {
            return Err("give either names of objects or --selector".into());
        }
        Ok(targets)
    }
}

pub(super) async fn run(
    options: &DescribeOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let targets = options.targets().map_err(CommandError::Usage)?;
    let (mut objects, mut failed) = (Vec::new(), 0);
    for target in &targets {
        let path = ObjectPath { resource: target.resource, namespace: Some(&cluster.namespace) };
        if target.names.is_empty() {
            objects.extend(path.list(&cluster.client, options.selector.as_deref()).await?);
        }
        for name in &target.names {
            match path.get(&cluster.client, name).await {
                Ok(object) => objects.push(object),
                Err(error) => {
                    streams.note(&error.to_string());
                    failed += 1;
                }
            }
        }
    }
    if objects.is_empty() && failed == 0 {
        streams.note(&format!("No resources found in {} namespace.", cluster.namespace));
    }
    for (index, object) in objects.iter().enumerate() {
        let place = Some(namespace(object)).filter(|name| !name.is_empty()).unwrap_or(EVENTS_OF_CLUSTER);
        let events = match requests::events(&cluster.client, place, uid(object)).await {
            Ok(events) => events,
            Err(error) => {
                streams.note(&format!("the events cannot be read: {error}"));
                failed += 1;
                Vec::new()
            }
        };
        let separator = if index == 0 { "" } else { "\n\n" };
        let text = describe_text::describe(object, &events, (cluster.now)());
        streams.print(&format!("{separator}{text}"))?;
    }
    conclude(failed, "request")
}
