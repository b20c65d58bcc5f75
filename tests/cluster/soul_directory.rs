//! Souls for roles, from a directory behind TLS.

use muster_harness::{Failure, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::CertificateAuthority;
use crate::stack::{CONDITION_TIMEOUT, Stack, board, manifest};

/// A directory with one soul, `ann/sre`.
struct TlsSoulDirectory {
    url: String,
    task: AbortHandle,
}

impl Drop for TlsSoulDirectory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsSoulDirectory {
    async fn start(authority: &CertificateAuthority) -> Result<Self, Failure> {
        let (acceptor, _) = authority.server("localhost")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let page = url.clone();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream, page.clone()));
            }
        };
        Ok(Self { url, task: tokio::spawn(serve).abort_handle() })
    }
}

/// Answers one request.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, url: String) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let (status, kind, body) = match head.split(' ').nth(1) {
        Some("/sitemap.xml") => {
            ("200 OK", "text/xml", format!("<urlset><url><loc>{url}/souls/ann/sre</loc></url></urlset>"))
        }
        Some("/api/souls/ann/sre.md") => ("200 OK", "text/markdown", "Stay calm.".to_owned()),
        _ => ("404 Not Found", "text/plain", String::new()),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn gateway(stack: &Stack, directory: Value) -> Value {
    let mut gateway = stack.gateway();
    gateway["spec"]["soulDirectory"] = directory;
    gateway
}

pub(crate) async fn a_soul_is_fetched_over_https_from_an_allowed_private_address(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let directory = TlsSoulDirectory::start(&stack.authority).await?;
    let fleet = stack.namespace("souls").await?;
    fleet.secret("gw", stack.openclaw.token()).await?;
    let spec = json!({
        "boardRef": { "name": "ops" }, "wake": { "enabled": false }, "identityProfile": { "role": "SRE" },
    });
    let url = &directory.url;
    let agent = manifest("Agent", "one", spec);
    fleet.apply(&[gateway(stack, json!({ "url": url, "enabled": true })), board("ops"), agent]).await?;
    fleet.all_ready().await?;
    until("the error of the directory", CONDITION_TIMEOUT, async || {
        let error = fleet.field("agentgateway/gw", ".status.soulDirectory.error").await.map_err(|e| e.to_string())?;
        if error.contains("spec.soulDirectory.allowPrivateAddresses") { Ok(()) } else { Err(error) }
    })
    .await?;
    assert_eq!(fleet.field("agent/one", ".status.soul.state").await?, "Unavailable");

    let allowed = json!({ "url": url, "enabled": true, "allowPrivateAddresses": true });
    fleet.apply(&[gateway(stack, allowed)]).await?;
    until("the soul in the workspace", CONDITION_TIMEOUT, async || {
        let soul = stack.file(&fleet, "one", "SOUL.md").await.map_err(|e| e.to_string())?;
        if soul.contains("Stay calm.") { Ok(()) } else { Err(soul) }
    })
    .await?;
    fleet.all_ready().await?;
    assert_eq!(fleet.field("agent/one", ".status.soul.sourceUrl").await?, format!("{url}/souls/ann/sre"));
    assert_eq!(fleet.field("agentgateway/gw", ".status.soulDirectory.error").await?, "");
    fleet.delete().await
}
