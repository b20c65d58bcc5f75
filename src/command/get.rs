//! `muster get`.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde_json::Value;

use super::columns::PrinterColumn;
use super::object::{name, namespace};
use super::object_watch::{ObjectWatch, WatchedChange};
use super::print::{DataFormat, list, without_managers};
use super::requests::ObjectPath;
use super::resources::ResourceType;
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};
use super::table::TableLayout;
use super::targets::{self, Target};

/// The options of `muster get`.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, clap::Args)]
pub struct GetOptions {
    /// A kind, or several with commas between them, and names of objects; or KIND/NAME for each object. "muster" stands for AgentGateways,
    /// Boards and Agents.
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1..)]
    words: Vec<String>,
    /// Show the objects of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Show only objects with these labels, such as team=ops.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Format of the output. Default: a table.
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
    /// Show the objects, and then each change until the command is interrupted.
    #[arg(long, short)]
    watch: bool,
    /// Leave out the line with the names of the columns.
    #[arg(long)]
    no_headers: bool,
    /// Print Secrets with their values, which -o json and -o yaml refuse without this option.
    #[arg(long)]
    show_secrets: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// A format of `muster get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// A table with all columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kind and name.
    Name,
}

impl OutputFormat {
    fn data(self) -> Option<DataFormat> {
        match self {
            Self::Json => Some(DataFormat::Json),
            Self::Yaml => Some(DataFormat::Yaml),
            Self::Wide | Self::Name => None,
        }
    }
}

impl GetOptions {
    /// The objects to show, if the options fit together.
    pub(super) fn request(&self) -> Result<Vec<Target>, String> {
        let targets = targets::parse(&self.words)?;
        let has_names = targets.iter().any(|target| !target.names.is_empty());
        if has_names && (self.all_namespaces || self.selector.is_some()) {
            return Err("give either names of objects, or --all-namespaces or --selector".into());
        }
        let is_data = self.output.is_some_and(|format| format.data().is_some());
        if is_data && !self.show_secrets && targets.iter().any(|target| target.resource.is_secret()) {
            return Err(
                "-o json and -o yaml would print the values of Secrets; give --show-secrets if you want them".into()
            );
        }
        if self.watch && (targets.len() > 1 || targets[0].names.len() > 1) {
            return Err("--watch takes one kind, and at most one name".into());
        }
        Ok(targets)
    }
}

/// How objects of a kind are shown as a table.
struct ObjectTable<'a> {
    resource: &'static ResourceType,
    columns: Vec<&'a PrinterColumn>,
    has_namespaces: bool,
    /// Whether names have the kind before them.
    has_kinds: bool,
    layout: TableLayout,
}

impl ObjectTable<'_> {
    fn new(resource: &'static ResourceType, options: &GetOptions, has_kinds: bool) -> Self {
        let is_wide = options.output == Some(OutputFormat::Wide);
        let columns = resource.columns.iter().filter(|column| is_wide || !column.is_wide).collect();
        let has_namespaces = options.all_namespaces && resource.is_namespaced;
        Self { resource, columns, has_namespaces, has_kinds, layout: TableLayout::default() }
    }

    fn header(&self) -> Vec<String> {
        let namespace = self.has_namespaces.then(|| "NAMESPACE".to_owned());
        let columns = self.columns.iter().map(|column| column.header.clone());
        namespace.into_iter().chain(["NAME".to_owned()]).chain(columns).collect()
    }

    fn values(&self, object: &Value) -> Vec<Value> {
        self.columns.iter().map(|column| column.value(object)).collect()
    }

    fn row(&self, object: &Value, cluster: &Cluster) -> Vec<String> {
        let namespace = self.has_namespaces.then(|| namespace(object).to_owned());
        let name = if self.has_kinds { self.resource.label(name(object)) } else { name(object).to_owned() };
        let values = self.values(object);
        let cells = self.columns.iter().zip(&values).map(|(column, value)| column.cell(value, (cluster.now)()));
        namespace.into_iter().chain([name]).chain(cells).collect()
    }
}

pub(super) async fn run(
    options: &GetOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let targets = options.request().map_err(CommandError::Usage)?;
    let namespace = (!options.all_namespaces).then_some(cluster.namespace.as_str());
    if options.watch {
        return watch(options, &targets[0], namespace, cluster, streams).await;
    }
    let (mut found, mut failed) = (Vec::new(), 0);
    for target in &targets {
        let path = ObjectPath { resource: target.resource, namespace };
        if target.names.is_empty() {
            found.push((target.resource, path.list(&cluster.client, options.selector.as_deref()).await?));
            continue;
        }
        let mut objects = Vec::new();
        for name in &target.names {
            match path.get(&cluster.client, name).await {
                Ok(object) => objects.push(object),
                Err(error) => {
                    streams.note(&error.to_string());
                    failed += 1;
                }
            }
        }
        found.push((target.resource, objects));
    }
    let is_single = targets.len() == 1 && targets[0].names.len() == 1;
    print(options, found, is_single, cluster, streams)?;
    conclude(failed, "object")
}

fn print(
    options: &GetOptions,
    found: Vec<(&'static ResourceType, Vec<Value>)>,
    is_single: bool,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    if let Some(format) = options.output.and_then(OutputFormat::data) {
        let mut objects: Vec<_> = found.into_iter().flat_map(|(_, objects)| objects).map(without_managers).collect();
        return match objects.pop() {
            Some(object) if is_single => streams.print(&format.text(&object)),
            None if is_single => Ok(()),
            last => {
                objects.extend(last);
                streams.print(&format.text(&list(&objects)))
            }
        };
    }
    if found.iter().all(|(_, objects)| objects.is_empty()) {
        if !is_single {
            streams.note(&nothing(options, &found, cluster));
        }
        return Ok(());
    }
    let has_kinds = found.len() > 1;
    let mut is_first = true;
    for (resource, objects) in found.into_iter().filter(|(_, objects)| !objects.is_empty()) {
        if options.output == Some(OutputFormat::Name) {
            let names = objects.iter().map(|object| resource.label(name(object)) + "\n");
            streams.print(&names.collect::<String>())?;
            continue;
        }
        let mut table = ObjectTable::new(resource, options, has_kinds);
        let mut rows: Vec<_> = (!options.no_headers).then(|| table.header()).into_iter().collect();
        rows.extend(objects.iter().map(|object| table.row(object, cluster)));
        let separator = if is_first { "" } else { "\n" };
        is_first = false;
        streams.print(&format!("{separator}{}", table.layout.lines(&rows)))?;
    }
    Ok(())
}

fn nothing(options: &GetOptions, found: &[(&ResourceType, Vec<Value>)], cluster: &Cluster) -> String {
    if options.all_namespaces || found.iter().all(|(resource, _)| !resource.is_namespaced) {
        return "No resources found".into();
    }
    format!("No resources found in {} namespace.", cluster.namespace)
}

/// Shows the objects and each change of a row.
async fn watch(
    options: &GetOptions,
    target: &Target,
    scope: Option<&str>,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let path = ObjectPath { resource: target.resource, namespace: scope };
    let only = target.names.first().map(String::as_str);
    let mut objects = ObjectWatch::new(&cluster.client, path, options.selector.as_deref(), only);
    let mut table = ObjectTable::new(target.resource, options, false);
    let mut shown: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    let mut is_headed = options.no_headers || options.output.is_some_and(|format| format != OutputFormat::Wide);
    loop {
        let mut rows = Vec::new();
        for change in objects.next().await? {
            match change {
                WatchedChange::Interrupted(cause) => streams.note(&format!("{cause}; trying again")),
                WatchedChange::Gone(object) => {
                    shown.remove(&(namespace(&object).to_owned(), name(&object).to_owned()));
                    streams.note(&format!("{} is deleted", target.resource.label(name(&object))));
                }
                WatchedChange::Seen(object) => {
                    if let Some(format) = options.output.and_then(OutputFormat::data) {
                        let start = if format == DataFormat::Yaml { "---\n" } else { "" };
                        streams.print(&format!("{start}{}", format.text(&without_managers(object))))?;
                    } else if options.output == Some(OutputFormat::Name) {
                        streams.print(&format!("{}\n", target.resource.label(name(&object))))?;
                    } else {
                        let values = table.values(&object);
                        let key = (namespace(&object).to_owned(), name(&object).to_owned());
                        if shown.insert(key, values.clone()) != Some(values) {
                            rows.push(table.row(&object, cluster));
                        }
                    }
                }
            }
        }
        if !rows.is_empty() && !is_headed {
            rows.insert(0, table.header());
            is_headed = true;
        }
        streams.print(&table.layout.lines(&rows))?;
    }
}
