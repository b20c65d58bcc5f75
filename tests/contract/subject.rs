//! A gateway under test, with a client.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use muster::openclaw::model::{
    AgentEntry, AgentRow, CallError, ConnectionState, EntryIdentity, EntryState, HeartbeatClaims, HeartbeatEntry,
    Hello, Inventory, RefusalKind,
};
use muster::openclaw::{
    Auth, ConnectionSettings, DeviceKey, Dial, DialError, DialedStream, GatewayClient, Meter, Network, Trust,
};
use muster_harness::{Failure, OpenClaw};
use muster_simulator::{ConfigLayout, FileLink, Simulator};
use url::Url;

use crate::layouts::lay_out_files;

/// The limit of a step. Older gateways may accept no config writes for a minute, and on a busy machine a step takes twenty times as long as on
/// an idle one.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_mins(6);
/// How long submitted entries are waited for before they are submitted again.
const RESUBMIT_INTERVAL: Duration = Duration::from_secs(10);
/// The limit of a restart after a patch: 2026.3.2 restarts at most once in 30 s.
const RESTART_TIMEOUT: Duration = Duration::from_secs(45);

/// Counts requests by method.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<&'static str, usize>>);

impl Meter for Counts {
    fn requested(&self, method: &'static str, _: bool, _: Duration) {
        *self.0.lock().unwrap().entry(method).or_default() += 1;
    }

    fn held_back(&self, method: &'static str) {
        panic!("{method} was held back");
    }
}

struct SimulatorDial(Simulator);

impl Dial for SimulatorDial {
    fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        Box::pin(async { Ok(DialedStream::new(self.0.connect()?)) })
    }
}

/// A gateway under test.
pub(crate) struct Subject {
    pub(crate) client: GatewayClient,
    counts: Arc<Counts>,
    pub(crate) settings: ConnectionSettings,
    pub(crate) dial: Arc<dyn Dial>,
    host: Host,
    /// Whether the gateway restarts some time after a patch.
    pub(crate) restarts_after_patches: bool,
    /// Registered agents that no test has used.
    prepared: Mutex<Vec<AgentEntry>>,
}

/// The location of a gateway's workspaces.
#[derive(Clone)]
enum Host {
    Simulated(Simulator),
    /// The home directory of the gateway.
    Real(PathBuf),
}

impl Subject {
    pub(crate) async fn simulated(simulator: Simulator) -> Result<Self, Failure> {
        let host = Host::Simulated(simulator.clone());
        let restarts = simulator.restarts_on_patch();
        let dial = Arc::new(SimulatorDial(simulator));
        let subject = Self::connect("ws://simulator", Auth::Token("token".into()), dial, host).await?;
        Ok(Self { restarts_after_patches: restarts, ..subject })
    }

    pub(crate) async fn real(gateway: &OpenClaw) -> Result<Self, Failure> {
        Self::real_with_auth(gateway, Auth::Token(gateway.token().into())).await
    }

    /// The same for a version that may restart after each patch.
    pub(crate) async fn real_restarting(gateway: &OpenClaw, restarts: bool) -> Result<Self, Failure> {
        Ok(Self { restarts_after_patches: restarts, ..Self::real(gateway).await? })
    }

    /// The same with this credential.
    pub(crate) async fn real_with_auth(gateway: &OpenClaw, auth: Auth) -> Result<Self, Failure> {
        let host = Host::Real(gateway.home().to_owned());
        Self::connect(&gateway.url(), auth, Arc::new(Network::default()), host).await
    }

    async fn connect(url: &str, auth: Auth, dial: Arc<dyn Dial>, host: Host) -> Result<Self, Failure> {
        Self::open(settings(url, auth)?, dial, host).await
    }

    /// A second client of the same gateway.
    pub(crate) async fn second_client(&self) -> Result<Self, Failure> {
        let second = Self::open(self.settings.clone(), Arc::clone(&self.dial), self.host.clone()).await?;
        Ok(Self { restarts_after_patches: self.restarts_after_patches, ..second })
    }

    async fn open(settings: ConnectionSettings, dial: Arc<dyn Dial>, host: Host) -> Result<Self, Failure> {
        let counts = Arc::new(Counts::default());
        let client = GatewayClient::open(settings.clone(), Arc::clone(&dial), Arc::clone(&counts) as Arc<dyn Meter>);
        // The heartbeats of other agents stay unchanged.
        client.claim_heartbeats(HeartbeatClaims::default());
        let mut link = client.connection();
        let connected =
            tokio::time::timeout(STEP_TIMEOUT, link.wait_for(|link| matches!(link, ConnectionState::Up(_))));
        connected.await.map_err(|_| format!("no connection within {STEP_TIMEOUT:?}"))??;
        let (restarts_after_patches, prepared) = (false, Mutex::default());
        let subject = Self { client, counts, settings, dial, host, restarts_after_patches, prepared };
        subject.until("the roster", |_| true).await?;
        Ok(subject)
    }

    /// The number of requests of a method so far.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.0.lock().unwrap().get(method).copied().unwrap_or_default()
    }

    /// Checks the number of requests of a method, on a simulator. A real gateway may restart or read its config again at any time, and the client
    /// then writes again.
    pub(crate) fn check_count(&self, method: &str, wanted: RangeInclusive<usize>) {
        let count = self.count(method);
        let is_simulated = matches!(self.host, Host::Simulated(_));
        assert!(!is_simulated || wanted.contains(&count), "{count} requests of {method} instead of {wanted:?}");
    }

    /// Adds registered agents, for tests that need any agent.
    pub(crate) fn prepare(&self, agents: Vec<AgentEntry>) {
        self.prepared.lock().unwrap().extend(agents);
    }

    /// The prepared agents that are left.
    pub(crate) fn take_prepared(&self) -> Vec<AgentEntry> {
        std::mem::take(&mut self.prepared.lock().unwrap())
    }

    /// The current inventory, or the first one after a restart.
    pub(crate) async fn inventory(&self) -> Result<Arc<Inventory>, Failure> {
        self.until("the roster", |_| true).await
    }

    /// The inventory's row of an agent.
    pub(crate) async fn row(&self, id: &str) -> Result<AgentRow, Failure> {
        let row = self.inventory().await?.agents.get(id).cloned();
        Ok(row.ok_or_else(|| format!("the gateway does not have {id}"))?)
    }

    /// Waits until the inventory matches.
    pub(crate) async fn until(&self, what: &str, seen: impl Fn(&Inventory) -> bool) -> Result<Arc<Inventory>, Failure> {
        let missing = || {
            let (writes, seen) = (self.client.config_writes(), self.client.inventory());
            format!("{what}: not within {STEP_TIMEOUT:?}: {:?}; {:?}", writes.borrow(), seen.borrow())
        };
        Ok(self.seen_within(STEP_TIMEOUT, seen).await?.ok_or_else(missing)?)
    }

    /// The inventory that matches within this time, if any.
    pub(crate) async fn seen_within(
        &self,
        time: Duration,
        seen: impl Fn(&Inventory) -> bool,
    ) -> Result<Option<Arc<Inventory>>, Failure> {
        let mut inventory = self.client.inventory();
        let wait = inventory.wait_for(|inventory| inventory.as_deref().is_some_and(&seen));
        match tokio::time::timeout(time, wait).await {
            Ok(seen) => Ok(seen?.clone()),
            Err(_) => Ok(None),
        }
    }

    /// Submits entries and waits until the gateway has applied them.
    pub(crate) async fn register(&self, entries: &[AgentEntry]) -> Result<(), Failure> {
        let (before, patches) = (self.hello(), self.count("config.patch"));
        let is_in_roster = |inventory: &Inventory, id: &str| inventory.agents.get(id).is_some_and(|row| row.in_roster);
        let applied = |inventory: &Inventory, entry: &AgentEntry| {
            inventory.entry_state(entry) == EntryState::Current && is_in_roster(inventory, &entry.id)
        };
        let all = |inventory: &Inventory| inventory.settled && entries.iter().all(|entry| applied(inventory, entry));
        let end = tokio::time::Instant::now() + STEP_TIMEOUT;
        loop {
            for entry in entries {
                self.client.submit(entry.clone());
            }
            // A gateway may show an entry and then undo the write. A reconcile then submits the entry again.
            if self.seen_within(RESUBMIT_INTERVAL, all).await?.is_some() {
                break;
            }
            if tokio::time::Instant::now() < end {
                continue;
            }
            let last = self.client.inventory().borrow().clone();
            let seen = last.map(|last| {
                let shown = |entry: &AgentEntry| (last.entry_state(entry), is_in_roster(&last, &entry.id));
                (last.settled, entries.iter().map(shown).collect::<Vec<_>>())
            });
            let writes = self.client.config_writes();
            return Err(format!(
                "settled, and the entries' states and places in the roster: {seen:?} after {STEP_TIMEOUT:?}; {:?}; {:?}",
                writes.borrow(),
                self.client.inventory().borrow()
            )
            .into());
        }
        if self.restarts_after_patches && self.count("config.patch") > patches {
            self.until_another_connection(before.as_ref()).await?;
        }
        // A new agent accepts files a moment after the roster shows it.
        for entry in entries {
            self.until_files(&entry.id).await?;
        }
        Ok(())
    }

    /// The answer to `connect` of the open connection.
    fn hello(&self) -> Option<Arc<Hello>> {
        match &*self.client.connection().borrow() {
            ConnectionState::Up(hello) => Some(Arc::clone(hello)),
            ConnectionState::Connecting | ConnectionState::Refused(_) | ConnectionState::Down { .. } => None,
        }
    }

    /// Waits until the connection is another one, and the roster is read by it. One restart of a real gateway may serve two patches.
    async fn until_another_connection(&self, before: Option<&Arc<Hello>>) -> Result<(), Failure> {
        let is_another = |link: &ConnectionState| matches!(link, ConnectionState::Up(hello) if before.is_none_or(|before| !Arc::ptr_eq(before, hello)));
        let mut link = self.client.connection();
        match tokio::time::timeout(RESTART_TIMEOUT, link.wait_for(is_another)).await {
            Err(late) if matches!(self.host, Host::Simulated(_)) => return Err(late.into()),
            Err(_) => {}
            Ok(another) => drop(another?),
        }
        self.inventory().await?;
        Ok(())
    }

    async fn until_files(&self, id: &str) -> Result<(), Failure> {
        let end = tokio::time::Instant::now() + STEP_TIMEOUT;
        loop {
            match self.client.files_list(id).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() && tokio::time::Instant::now() < end => {
                    self.client.resync().await;
                }
                // On an old gateway, the config write with the new agent causes a restart. On a busy machine 2026.7 answers late after a new agent.
                Err(CallError::Interrupted | CallError::NotConnected | CallError::Deadline(_))
                    if tokio::time::Instant::now() < end =>
                {
                    self.inventory().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes a file in an agent's workspace on the gateway's disk.
    pub(crate) fn write_file(&self, agent: &AgentEntry, name: &str, content: &[u8]) -> Result<(), Failure> {
        match &self.host {
            Host::Simulated(simulator) => simulator.edit_bytes(&agent.id, name, Some(content)),
            Host::Real(home) => {
                let path = Self::vacant_path(home, agent, name)?;
                std::fs::write(path, content)?;
            }
        }
        Ok(())
    }

    /// Puts a link in place of a file in an agent's workspace.
    pub(crate) fn link_file(&self, agent: &AgentEntry, name: &str, link: FileLink) -> Result<(), Failure> {
        match &self.host {
            Host::Simulated(simulator) => simulator.link_file(&agent.id, name, link),
            Host::Real(home) => {
                let path = Self::vacant_path(home, agent, name)?;
                let target = home.join(format!("outside-{}-{name}", agent.id));
                std::fs::write(&target, "theirs")?;
                match link {
                    FileLink::Hard => std::fs::hard_link(target, path)?,
                    FileLink::Symbolic => std::os::unix::fs::symlink(target, path)?,
                }
            }
        }
        Ok(())
    }

    /// The path of a workspace file, after a removal of what is there.
    fn vacant_path(home: &Path, agent: &AgentEntry, name: &str) -> Result<PathBuf, Failure> {
        let path = home.join(agent.workspace.trim_start_matches("~/")).join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(path),
        }
    }

    /// Puts a file in place of the trash, so that the gateway can move nothing there.
    pub(crate) fn block_trash(&self) -> Result<(), Failure> {
        match &self.host {
            Host::Simulated(simulator) => simulator.block_trash(),
            Host::Real(home) => {
                let trash = home.join(".Trash");
                if trash.is_dir() {
                    std::fs::rename(&trash, home.join("former-trash"))?;
                }
                std::fs::write(trash, "no folder")?;
            }
        }
        Ok(())
    }

    /// Undoes [`Self::block_trash`].
    pub(crate) fn repair_trash(&self) -> Result<(), Failure> {
        match &self.host {
            Host::Simulated(simulator) => simulator.repair_trash(),
            Host::Real(home) => {
                let (trash, former) = (home.join(".Trash"), home.join("former-trash"));
                std::fs::remove_file(&trash)?;
                if former.is_dir() {
                    std::fs::rename(former, trash)?;
                }
            }
        }
        Ok(())
    }

    /// Spreads the config over files.
    pub(crate) fn lay_out(&self, layout: ConfigLayout) -> Result<(), Failure> {
        match &self.host {
            Host::Simulated(simulator) => {
                simulator.lay_out_config(layout);
                Ok(())
            }
            Host::Real(home) => lay_out_files(&home.join(".openclaw"), layout),
        }
    }

    /// Whether the gateway has read a config other than the one with this hash. The hash of a simulator does not depend on the layout.
    pub(crate) fn has_read_another(&self, inventory: &Inventory, hash: &str) -> bool {
        let shows_layouts = matches!(self.host, Host::Real(_));
        inventory.settled && (!shows_layouts || inventory.config_hash != hash)
    }

    /// The config file of a real gateway.
    pub(crate) fn config_file(&self) -> Result<PathBuf, Failure> {
        match &self.host {
            Host::Simulated(_) => Err("a simulator has no files".into()),
            Host::Real(home) => Ok(home.join(".openclaw/openclaw.json")),
        }
    }

    /// The contents of a file in the folders that the command in the event of a removal finds.
    pub(crate) fn trashed(&self, agent: &AgentEntry, name: &str) -> Result<Vec<String>, Failure> {
        let home = match &self.host {
            Host::Simulated(simulator) => {
                return Ok(simulator.trashed_file(&agent.workspace, name).into_iter().collect());
            }
            Host::Real(home) => home,
        };
        let find = format!("find ~/.Trash -maxdepth 2 -name '{}*'", agent.id);
        let found = Command::new("sh").args(["-c", &find]).env("HOME", home).output()?;
        let folders = String::from_utf8(found.stdout)?;
        Ok(folders.lines().filter_map(|path| std::fs::read_to_string(Path::new(path).join(name)).ok()).collect())
    }

    /// A registered agent.
    pub(crate) async fn agent(&self) -> Result<AgentEntry, Failure> {
        let prepared = self.prepared.lock().unwrap().pop();
        if let Some(prepared) = prepared {
            return Ok(prepared);
        }
        let entry = new_entry();
        self.register(std::slice::from_ref(&entry)).await?;
        Ok(entry)
    }
}

/// Repeats a request for so long, as a reconcile does, while its error may pass: in a restart of the gateway, or until its config confirms an
/// answer.
pub(crate) async fn repeated<T>(
    limit: Duration,
    request: impl AsyncFn() -> Result<T, CallError>,
) -> Result<T, CallError> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        match request().await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

fn settings(url: &str, auth: Auth) -> Result<ConnectionSettings, Failure> {
    Ok(ConnectionSettings {
        url: url.parse()?,
        auth,
        device_key: Arc::new(DeviceKey::generate()?),
        device_token: None,
        previous: None,
        trust: Trust::Platform,
        max_in_flight: 16,
        resync: Duration::from_mins(10),
    })
}

/// The refusal of a real gateway to a client with this credential.
pub(crate) async fn connect_refusal(gateway: &OpenClaw, auth: Auth) -> Result<RefusalKind, Failure> {
    let client = GatewayClient::open(settings(&gateway.url(), auth)?, Arc::new(Network::default()), Arc::new(()));
    let mut link = client.connection();
    let refused = link.wait_for(|link| matches!(link, ConnectionState::Refused(_) | ConnectionState::Up(_)));
    match &*tokio::time::timeout(STEP_TIMEOUT, refused).await?? {
        ConnectionState::Refused(refusal) => Ok(refusal.kind.clone()),
        other => Err(format!("the connection was not refused: {other:?}").into()),
    }
}

/// The entry of an agent with a new id and without heartbeats. Only the test starts runs of the agent.
pub(crate) fn new_entry() -> AgentEntry {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let id = format!("mc-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    AgentEntry {
        name: Some(format!("Agent {id}")),
        workspace: format!("~/workspaces/{id}"),
        model: None,
        identity: EntryIdentity { name: Some(format!("Agent {id}")), emoji: Some("🛠".into()), avatar: None },
        heartbeat: HeartbeatEntry {
            every: Some("0m".into()),
            target: Some("none".into()),
            ..HeartbeatEntry::default()
        },
        id,
        ..AgentEntry::default()
    }
}
