//! A simulated gateway, and files, for the commands that compare the two.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use muster::command::{CommandError, Comparison, Streams};
use muster::openclaw::{Dial, DialError, DialedStream, Trust};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// The credential of the gateway.
pub(crate) const TOKEN: &str = "secret-token";

/// Dials the gateway at the hosts `gateway` and `tunnel`. Nothing answers at another host.
#[derive(Debug)]
struct OneGateway {
    gateway: Simulator,
    /// The hosts so far, each with the rule for its certificate.
    dialed: Arc<Mutex<Vec<(String, Trust)>>>,
}

impl Dial for OneGateway {
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        let host = url.host_str().unwrap_or_default();
        self.dialed.lock().unwrap().push((host.to_owned(), trust.clone()));
        let simulator = ["gateway", "tunnel"].contains(&host).then(|| self.gateway.clone());
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            Ok(DialedStream::new(simulator.ok_or_else(refused)?.connect()?))
        })
    }
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Comparison, String>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A gateway with the agents `nova` and `ops`, and a folder for manifests.
pub(crate) struct GatewayRig {
    pub(crate) gateway: Simulator,
    /// The hosts that commands connected to, each with the rule for its certificate.
    pub(crate) dialed: Arc<Mutex<Vec<(String, Trust)>>>,
    folder: TempDir,
}

impl GatewayRig {
    pub(crate) fn new() -> Self {
        let gateway = Simulator::new(Profile::v2026_9_6().with_token(TOKEN).instant());
        gateway.edit_config(|config| {
            config["agents"]["ownership"] = json!("explicit");
            config["agents"]["entries"]["nova"] = json!({
                "name": "Nova", "workspace": "/srv/nova", "model": "acme/small", "heartbeat": { "every": "60m" },
            });
            config["agents"]["entries"]["ops"] = json!({ "name": "Ops", "workspace": "/srv/ops" });
        });
        let rig = Self { gateway, dialed: Arc::default(), folder: tempfile::tempdir().unwrap() };
        rig.write("token", TOKEN);
        rig
    }

    /// Writes a file. `DIR` in a command line is its folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Writes objects into a file.
    pub(crate) fn manifests(&self, name: &str, objects: &[Value]) {
        let documents: Vec<_> = objects.iter().map(ToString::to_string).collect();
        self.write(name, &documents.join("\n---\n"));
    }

    /// The words of a command line.
    pub(crate) fn words(&self, line: &str) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        line.split_whitespace().map(|word| word.replace("DIR", &folder)).collect()
    }

    /// Runs a command that must not write to the gateway and must not show the credential.
    pub(crate) async fn run(
        &self,
        act: impl AsyncFnOnce(Arc<dyn Dial>, &mut Streams<'_>) -> Result<Comparison, CommandError>,
    ) -> Outcome {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, err: &mut err, input: &mut io::empty(), is_terminal: false };
        let config = self.gateway.config();
        let dial = Arc::new(OneGateway { gateway: self.gateway.clone(), dialed: Arc::clone(&self.dialed) });
        let result = tokio::time::timeout(Duration::from_mins(10), act(dial, &mut streams)).await.unwrap();
        assert_eq!((self.gateway.writes(), self.gateway.config()), (0, config), "the command only reads");
        let folder = self.folder.path().display().to_string();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "DIR");
        let outcome = Outcome { result: result.map_err(|error| error.to_string()), out: text(out), err: text(err) };
        assert!(!format!("{outcome:?}").contains(TOKEN), "{outcome:?}");
        outcome
    }
}
