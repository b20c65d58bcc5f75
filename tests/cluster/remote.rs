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

use crate::authority::CertificateAuthority;
use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest, unwoken};

/// A TLS proxy on loopback in front of the gateway.
struct TlsProxy {
    url: String,
    /// The authority's certificate, PEM.
    ca: String,
    /// The SHA-256 fingerprint of the proxy's certificate, in hexadecimal.
    fingerprint: String,
    task: AbortHandle,
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsProxy {
    async fn start(gateway: &RemoteOpenClaw) -> Result<Self, Failure> {
        let authority = CertificateAuthority::new()?;
        let (acceptor, certificate) = authority.server("127.0.0.1")?;
        let fingerprint = Fingerprint::of(&certificate).to_string().replace(':', "").to_lowercase();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("wss://{}", listener.local_addr()?);
        let socket = gateway.socket();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(acceptor.clone(), stream, socket.clone()));
            }
        };
        Ok(Self { url, ca: authority.pem, fingerprint, task: tokio::spawn(serve).abort_handle() })
    }
}

async fn forward(acceptor: TlsAcceptor, stream: TcpStream, socket: std::path::PathBuf) -> std::io::Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut gateway = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional(&mut client, &mut gateway).await?;
    Ok(())
}

/// The AgentGateway with this TLS trust.
fn gateway(stack: &Stack, proxy: &TlsProxy, tls: &Value) -> Value {
    let mut gateway = stack.gateway();
    gateway["spec"]["url"] = json!(proxy.url);
    gateway["spec"]["tls"] = tls.clone();
    gateway
}

/// Runs the command of the status unchanged on the gateway's host.
async fn approve(fleet: &Fleet, gateway: &RemoteOpenClaw) -> Result<(), Failure> {
    fleet.until_reason("agentgateway/gw", "Paired", "PairingRequired").await?;
    let command = fleet.field("agentgateway/gw", ".status.pairing.command").await?;
    let expires = fleet.field("agentgateway/gw", ".status.pairing.expiresAt").await?;
    assert!(!expires.is_empty(), "the status has no expiry");
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
    let done = run_scenario(stack, &far).await;
    done.map_err(|e| format!("{e}\nthe end of the log of the remote gateway:\n{}", far.tail()).into())
}

async fn run_scenario(stack: &mut Stack, far: &RemoteOpenClaw) -> Result<(), Failure> {
    let proxy = TlsProxy::start(far).await?;
    let fleet = stack.namespace("far").await?;
    fleet.secret("gw", far.token()).await?;
    let ca = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "ca" }, "stringData": { "ca.crt": proxy.ca } });
    fleet.apply(&[ca, board("ops"), unwoken("one")]).await?;
    check_certificates(stack, &fleet, &proxy).await?;

    approve(&fleet, far).await?;
    fleet.all_ready().await?;
    let (id, token) = (fleet.field("agentgateway/gw", ".status.deviceId").await?, device_token(&fleet).await?);
    assert!(!token.is_empty(), "the issued device token is stored");

    import_agents(&fleet, far, &proxy).await?;
    stack.operator.restart().await?;
    let changed = json!({ "boardRef": { "name": "ops" }, "displayName": "Another", "wake": { "enabled": false } });
    fleet.apply(&[manifest("Agent", "one", changed)]).await?;
    until("the change to be seen after the restart", CONDITION_TIMEOUT, async || {
        let seen = fleet.field("agent/one", ".status.observedGeneration").await.map_err(|e| e.to_string())?;
        if seen == "2" { Ok(()) } else { Err(seen) }
    })
    .await?;
    fleet.all_ready().await?;
    assert_eq!(fleet.field("agentgateway/gw", ".status.deviceId").await?, id, "the same device");

    far.run(&format!("openclaw devices rotate --device {id} --role operator")).await?;
    until("the new token of the device", CONDITION_TIMEOUT, async || match device_token(&fleet).await {
        Ok(new) if new != token => Ok(()),
        Ok(_) => Err("the old token".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    fleet.all_ready().await?;

    far.run(&format!("openclaw devices revoke --device {id} --role operator")).await?;
    approve(&fleet, far).await?;
    fleet.all_ready().await?;
    fleet.delete().await
}

/// The command at the end of a line of the import's output.
async fn next_command(lines: &mut Lines<BufReader<ChildStderr>>, words: &str) -> Result<String, Failure> {
    let mut seen_lines = String::new();
    while let Some(line) = tokio::time::timeout(CONDITION_TIMEOUT, lines.next_line()).await?? {
        if let Some(at) = line.find(words) {
            return Ok(line[at..].to_owned());
        }
        seen_lines.push_str(&line);
        seen_lines.push('\n');
    }
    Err(format!("it did not name the command {words:?}:\n{seen_lines}").into())
}

/// Imports the agents with the commands that the import names.
async fn import_agents(fleet: &Fleet, far: &RemoteOpenClaw, proxy: &TlsProxy) -> Result<(), Failure> {
    let ca = NamedTempFile::with_prefix("muster-ca-")?;
    std::fs::write(ca.path(), &proxy.ca)?;
    let mut import = Command::new(env!("CARGO_BIN_EXE_muster"));
    import.args(["import", "--gateway", &proxy.url, "--fingerprint", &proxy.fingerprint, "--ca-file"]).arg(ca.path());
    import.env("MUSTER_GATEWAY_TOKEN", far.token()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut import = import.spawn()?;
    let mut lines = BufReader::new(import.stderr.take().ok_or("no pipe")?).lines();
    far.run(&next_command(&mut lines, "openclaw devices approve ").await?).await?;
    far.run(&next_command(&mut lines, "openclaw devices remove ").await?).await?;
    let output = tokio::time::timeout(CONDITION_TIMEOUT, import.wait_with_output()).await??;
    let manifests = String::from_utf8(output.stdout)?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    assert!(output.status.success() && manifests.contains(&format!("agentId: {id}")), "{manifests}");
    assert!(manifests.contains("caSecretRef:") && manifests.contains("fingerprint:"), "{manifests}");
    assert!(!manifests.contains(far.token()), "the token is in no manifest");
    Ok(())
}

/// Checks an untrusted certificate, a wrong fingerprint, and a certificate that matches both the fingerprint and the authority.
async fn check_certificates(stack: &Stack, fleet: &Fleet, proxy: &TlsProxy) -> Result<(), Failure> {
    fleet.apply(&[gateway(stack, proxy, &json!({}))]).await?;
    // On a busy machine, the connection may time out before the certificate is checked.
    until("the certificate to be refused", CONDITION_TIMEOUT, async || {
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
    fleet.apply(&[gateway(stack, proxy, &json!({ "fingerprint": wrong }))]).await?;
    until("both fingerprints in the message", CONDITION_TIMEOUT, async || {
        let (_, message) = fleet.condition("agentgateway/gw", "Reachable").await.map_err(|e| e.to_string())?;
        let seen = message.replace(':', "").to_lowercase();
        if seen.contains(&proxy.fingerprint) && seen.contains(&wrong) { Ok(()) } else { Err(message) }
    })
    .await?;
    let both = json!({ "fingerprint": proxy.fingerprint, "caSecretRef": { "name": "ca", "key": "ca.crt" } });
    fleet.apply(&[gateway(stack, proxy, &both)]).await
}
