//! A gateway under test, with a client.

use std::collections::BTreeMap;
use std::io;
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
use muster_simulator::{FileLink, Simulator};
use url::Url;

/// The limit of a step. Older gateways may accept no config writes for a minute.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_mins(2);

/// Counts requests by method.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<&'static str, usize>>);

impl Meter for Counts {
    fn requested(&self, method: &'static str, _: bool) {
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
        Self::connect("ws://simulator", Auth::Token("token".into()), Arc::new(SimulatorDial(simulator)), host).await
    }

    pub(crate) async fn real(gateway: &OpenClaw) -> Result<Self, Failure> {
        Self::real_with_auth(gateway, Auth::Token(gateway.token().into())).await
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
        Self::open(self.settings.clone(), Arc::clone(&self.dial), self.host.clone()).await
    }

    async fn open(settings: ConnectionSettings, dial: Arc<dyn Dial>, host: Host) -> Result<Self, Failure> {
        let counts = Arc::new(Counts::default());
        let client = GatewayClient::open(settings.clone(), Arc::clone(&dial), Arc::clone(&counts) as Arc<dyn Meter>);
        // The heartbeats of other agents stay unchanged.
        client.claim_heartbeats(HeartbeatClaims::default());
        let mut link = client.connection();
        tokio::time::timeout(STEP_TIMEOUT, link.wait_for(|link| matches!(link, ConnectionState::Up(_)))).await??;
        let subject = Self { client, counts, settings, dial, host };
        subject.until("the roster", |_| true).await?;
        Ok(subject)
    }

    /// The number of requests of a method so far.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.0.lock().unwrap().get(method).copied().unwrap_or_default()
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
        let missing = || format!("{what}: not within {STEP_TIMEOUT:?}: {:?}", self.client.inventory().borrow());
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
        for entry in entries {
            self.client.submit(entry.clone());
        }
        self.until("the entries", |inventory| {
            inventory.settled
                && entries.iter().all(|entry| {
                    inventory.entry_state(entry) == EntryState::Current
                        && inventory.agents.get(&entry.id).is_some_and(|row| row.in_roster)
                })
        })
        .await
        .map_err(|error| format!("{error}; {:?}", self.client.config_writes().borrow()))?;
        if self.restarts_after_patches() && self.count("config.patch") > patches {
            self.until_another_connection(before.as_ref()).await?;
        }
        // A new agent accepts files a moment after the roster shows it.
        for entry in entries {
            self.until_files(&entry.id).await?;
        }
        Ok(())
    }

    /// Whether this is a simulator that restarts some time after a patch. A test on a real gateway is repeated instead.
    fn restarts_after_patches(&self) -> bool {
        matches!(&self.host, Host::Simulated(simulator) if simulator.restarts_on_patch())
    }

    /// The answer to `connect` of the open connection.
    fn hello(&self) -> Option<Arc<Hello>> {
        match &*self.client.connection().borrow() {
            ConnectionState::Up(hello) => Some(Arc::clone(hello)),
            ConnectionState::Connecting | ConnectionState::Refused(_) | ConnectionState::Down { .. } => None,
        }
    }

    /// Waits until the connection is another one, and the roster is read by it.
    async fn until_another_connection(&self, before: Option<&Arc<Hello>>) -> Result<(), Failure> {
        let is_another = |link: &ConnectionState| matches!(link, ConnectionState::Up(hello) if before.is_none_or(|before| !Arc::ptr_eq(before, hello)));
        let mut link = self.client.connection();
        tokio::time::timeout(STEP_TIMEOUT, link.wait_for(is_another)).await??;
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
                // On an old gateway, the config write with the new agent causes a restart.
                Err(CallError::Interrupted | CallError::NotConnected) if tokio::time::Instant::now() < end => {
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
        let entry = new_entry();
        self.register(std::slice::from_ref(&entry)).await?;
        Ok(entry)
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

/// The entry of an agent with a new id.
pub(crate) fn new_entry() -> AgentEntry {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let id = format!("mc-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    AgentEntry {
        name: Some(format!("Agent {id}")),
        workspace: format!("~/workspaces/{id}"),
        model: None,
        identity: EntryIdentity { name: Some(format!("Agent {id}")), emoji: Some("🛠".into()), avatar: None },
        heartbeat: HeartbeatEntry {
            every: Some("30m".into()),
            target: Some("none".into()),
            ..HeartbeatEntry::default()
        },
        id,
        ..AgentEntry::default()
    }
}
