//! A real gateway that sees the operator as remote, behind TLS with a private CA.

use std::process::Stdio;

use muster::openclaw::Fingerprint;
use muster_harness::{Failure, RemoteOpenClaw, until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{ChildStderr, Command};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::stack::{Fleet, PATIENCE, Stack, asleep, board, manifest};

/// A TLS listener on loopback, which leads to the gateway.
struct Front {
    url: String,
    /// The authority's certificate, PEM.
    ca: String,
    /// The SHA-256 of its own certificate, in hexadecimal.
    fingerprint: String,
    task: AbortHandle,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    async fn start(gateway: &RemoteOpenClaw) -> Result<Self, Failure> {
        let authority = Authority::new()?;
        let (acceptor, certificate) = authority.server("127.0.0.1")?;
        let fingerprint = Fingerprint::of(&certificate).to_string().replace(':', "").to_lowercase();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("wss://{}", listener.local_addr()?);
        let socket = gateway.socket();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(acceptor.clone(), stream, socket.clone()));
            }
        };
        Ok(Self { url, ca: authority.pem, fingerprint, task: tokio::spawn(serve).abort_handle() })
    }
}

async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, socket: std::path::PathBuf) -> std::io::Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut gateway = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional(&mut client, &mut gateway).await?;
    Ok(())
}

/// The AgentGateway, which checks the certificate so.
fn gateway(stack: &Stack, front: &Front, tls: &Value) -> Value {
    let mut gateway = stack.gateway();
    gateway["spec"]["url"] = json!(front.url);
    gateway["spec"]["tls"] = tls.clone();
    gateway
}

/// Runs the command that the status names, as it stands, where the gateway runs.
async fn approve(fleet: &Fleet, gateway: &RemoteOpenClaw) -> Result<(), Failure> {
    fleet.until_reason("agentgateway/gw", "Paired", "PairingRequired").await?;
    let command = fleet.field("agentgateway/gw", ".status.pairing.command").await?;
    let expires = fleet.field("agentgateway/gw", ".status.pairing.expiresAt").await?;
    assert!(!expires.is_empty(), "it says until when");
    gateway.run(&command).await?;
    fleet.wait("condition=Paired", &["agentgateway/gw"]).await?;
    fleet.wait("condition=Ready", &["agentgateway/gw"]).await
}

async fn device_token(fleet: &Fleet) -> Result<String, Failure> {
    fleet.field("secret/gw-device", ".data.device-token").await
}

pub(crate) async fn a_remote_gateway_is_trusted_by_its_certificate_and_approves_the_device(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let far = RemoteOpenClaw::start().await?;
    let done = walk(stack, &far).await;
    done.map_err(|e| format!("{e}\nthe end of the log of the gateway far away:\n{}", far.tail()).into())
}

async fn walk(stack: &mut Stack, far: &RemoteOpenClaw) -> Result<(), Failure> {
    let front = Front::start(far).await?;
    let fleet = stack.namespace("far").await?;
    fleet.secret("gw", far.token()).await?;
    let ca = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "ca" }, "stringData": { "ca.crt": front.ca } });
    fleet.apply(&[ca, board("ops"), asleep("one")]).await?;
    certificates(stack, &fleet, &front).await?;

    approve(&fleet, far).await?;
    fleet.all_ready().await?;
    let (id, token) = (fleet.field("agentgateway/gw", ".status.deviceId").await?, device_token(&fleet).await?);
    assert!(!token.is_empty(), "what the gateway issued is kept");

    imported(&fleet, far, &front).await?;
    stack.operator.restart().await?;
    let changed = json!({ "boardRef": { "name": "ops" }, "displayName": "Another", "wake": { "enabled": false } });
    fleet.apply(&[manifest("Agent", "one", changed)]).await?;
    until("the change to be seen after the restart", PATIENCE, async || {
        let seen = fleet.field("agent/one", ".status.observedGeneration").await.map_err(|e| e.to_string())?;
        if seen == "2" { Ok(()) } else { Err(seen) }
    })
    .await?;
    fleet.all_ready().await?;
    assert_eq!(fleet.field("agentgateway/gw", ".status.deviceId").await?, id, "the same device");

    far.run(&format!("openclaw devices rotate --device {id} --role operator")).await?;
    until("the new token of the device", PATIENCE, async || match device_token(&fleet).await {
        Ok(new) if new != token => Ok(()),
        Ok(_) => Err("the old one".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    fleet.all_ready().await?;

    far.run(&format!("openclaw devices revoke --device {id} --role operator")).await?;
    approve(&fleet, far).await?;
    fleet.all_ready().await?;
    fleet.delete().await
}

/// The command that a line of an import ends with.
async fn command(lines: &mut Lines<BufReader<ChildStderr>>, words: &str) -> Result<String, Failure> {
    let mut said = String::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await?? {
        if let Some(at) = line.find(words) {
            return Ok(line[at..].to_owned());
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(format!("it did not name the command {words:?}:\n{said}").into())
}

/// Imports the agents, by the commands that the import names.
async fn imported(fleet: &Fleet, far: &RemoteOpenClaw, front: &Front) -> Result<(), Failure> {
    let ca = NamedTempFile::with_prefix("muster-ca-")?;
    std::fs::write(ca.path(), &front.ca)?;
    let mut import = Command::new(env!("CARGO_BIN_EXE_muster"));
    import.args(["import", "--gateway", &front.url, "--fingerprint", &front.fingerprint, "--ca-file"]).arg(ca.path());
    import.env("MUSTER_GATEWAY_TOKEN", far.token()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut import = import.spawn()?;
    let mut lines = BufReader::new(import.stderr.take().ok_or("no pipe")?).lines();
    far.run(&command(&mut lines, "openclaw devices approve ").await?).await?;
    far.run(&command(&mut lines, "openclaw devices remove ").await?).await?;
    let output = tokio::time::timeout(PATIENCE, import.wait_with_output()).await??;
    let manifests = String::from_utf8(output.stdout)?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    assert!(output.status.success() && manifests.contains(&format!("agentId: {id}")), "{manifests}");
    assert!(manifests.contains("caSecretRef:") && manifests.contains("fingerprint:"), "{manifests}");
    assert!(!manifests.contains(far.token()), "the token is in no manifest");
    Ok(())
}

/// From a certificate that nothing vouches for to one that is right in both ways.
async fn certificates(stack: &Stack, fleet: &Fleet, front: &Front) -> Result<(), Failure> {
    fleet.apply(&[gateway(stack, front, &json!({}))]).await?;
    // On a machine that is busy it may be out of time before it comes to the certificate.
    until("the certificate to be refused", PATIENCE, async || {
        let (reason, message) = fleet.condition("agentgateway/gw", "Reachable").await.map_err(|e| e.to_string())?;
        let seen = format!("{reason}: {message}");
        if reason == "Unreachable" && message.contains("TLS") && message.contains("spec.tls") {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await?;
    let wrong = "ab".repeat(32);
    fleet.apply(&[gateway(stack, front, &json!({ "fingerprint": wrong }))]).await?;
    until("both fingerprints to be told", PATIENCE, async || {
        let (_, message) = fleet.condition("agentgateway/gw", "Reachable").await.map_err(|e| e.to_string())?;
        let seen = message.replace(':', "").to_lowercase();
        if seen.contains(&front.fingerprint) && seen.contains(&wrong) { Ok(()) } else { Err(message) }
    })
    .await?;
    let both = json!({ "fingerprint": front.fingerprint, "caSecretRef": { "name": "ca", "key": "ca.crt" } });
    fleet.apply(&[gateway(stack, front, &both)]).await
}
