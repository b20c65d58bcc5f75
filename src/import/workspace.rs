//! Reads the workspace files of agents. The requests change nothing.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use crate::openclaw::GatewayClient;
use crate::openclaw::model::{CallError, FileContent, FileInfo, Inventory, UnlistedFile};
use crate::templates::FileName;

/// The files that Muster keeps as rendered. Files that belong to the agent, such as MEMORY.md, are no templates.
pub(super) const FILES: [FileName; 5] =
    [FileName::AGENTS, FileName::SOUL, FileName::TOOLS, FileName::IDENTITY, FileName::HEARTBEAT];
/// The longest file that is read, in bytes. A template has no more, so that those of an agent fit into a ConfigMap of 1 MiB.
pub(super) const MAX_BYTES: i64 = 128 * 1024;
/// The number of agents whose files are read at the same time.
const MAX_AGENTS: usize = 4;

/// What the gateway answered about a file.
#[derive(Clone, Debug)]
pub(super) enum ReadFile {
    /// The file with its text.
    Content(FileContent),
    /// The file is longer than [`MAX_BYTES`].
    Long(i64),
    /// The gateway refuses the file, with its message.
    Refused(String),
}

/// The files of an agent that exist.
pub(super) type AgentFiles = BTreeMap<FileName, ReadFile>;

/// Reads the files of these agents, by id.
///
/// # Errors
/// A request that may succeed later, with the agent and the file.
pub(super) async fn read(
    client: &GatewayClient,
    inventory: &Inventory,
    ids: Vec<String>,
) -> Result<BTreeMap<String, AgentFiles>, String> {
    let of_agent = async |id: String| {
        let files = agent(client, inventory, &id).await?;
        Ok((id, files))
    };
    stream::iter(ids).map(of_agent).buffer_unordered(MAX_AGENTS).try_collect().await
}

/// The names that the gateway accepts.
pub(super) fn accepted(inventory: &Inventory) -> impl Iterator<Item = FileName> {
    FILES.into_iter().filter(|name| inventory.capabilities.accepted_files.contains(name.as_str()))
}

async fn agent(client: &GatewayClient, inventory: &Inventory, id: &str) -> Result<AgentFiles, String> {
    let listed = client.files_list(id).await;
    let listed = listed.map_err(|error| format!("the files of {id} could not be listed: {}", error.message()))?;
    let mut files = AgentFiles::new();
    for name in accepted(inventory) {
        let info = listed.iter().find(|file| file.name == name.as_str());
        match file(client, id, &name, info).await {
            Ok(Some(file)) => drop(files.insert(name, file)),
            Ok(None) => {}
            Err(error) if error.is_transient() => {
                return Err(format!("{name} of {id} could not be read: {}; import again", error.message()));
            }
            Err(error) => drop(files.insert(name, ReadFile::Refused(error.message()))),
        }
    }
    Ok(files)
}

async fn file(
    client: &GatewayClient,
    id: &str,
    name: &FileName,
    info: Option<&FileInfo>,
) -> Result<Option<ReadFile>, CallError> {
    let bounded = |content: FileContent| match i64::try_from(content.text.len()) {
        Ok(size) if size <= MAX_BYTES => ReadFile::Content(content),
        _ => ReadFile::Long(content.info.size),
    };
    match info {
        Some(info) if info.missing => Ok(None),
        Some(info) if info.size > MAX_BYTES => Ok(Some(ReadFile::Long(info.size))),
        Some(_) => Ok(client.file_get(id, name.as_str()).await?.map(bounded)),
        // 2026.9.6 leaves IDENTITY.md out of its lists.
        None => Ok(match client.unlisted_file(id, name.as_str()).await? {
            UnlistedFile::Missing => None,
            UnlistedFile::Read(content) => Some(bounded(content)),
            UnlistedFile::Long(info) => Some(ReadFile::Long(info.size)),
        }),
    }
}
