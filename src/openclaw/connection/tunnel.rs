//! The tunnel through a proxy: the method CONNECT of HTTP (RFC 9110, section 9.3.6).

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::address::proxy::HttpsProxy;

/// The most bytes of the answer of a proxy.
const MAX_ANSWER: usize = 16 * 1024;

/// Has a proxy connect to the host and port of `url`. Returns the stream to that host. The caller bounds the time.
///
/// # Errors
/// The connection was lost, or the proxy refused. The error has the first line of the answer.
pub(super) async fn open(mut stream: TcpStream, proxy: &HttpsProxy, url: &Url) -> io::Result<TcpStream> {
    let host = url.host_str().unwrap_or_default();
    let target = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let authorization = proxy.credentials().map(|credentials| {
        let encoded = STANDARD.encode(credentials);
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let authorization = authorization.unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let answer = head(&mut stream).await?;
    let line: String =
        answer.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(stream),
        Some("407") => Err(refused(&format!("{line}; set the user and the password of the proxy in HTTPS_PROXY"))),
        Some(_) | None => Err(refused(&line)),
    }
}

fn refused(line: &str) -> io::Error {
    io::Error::other(format!("the proxy of HTTPS_PROXY opened no tunnel: {line}"))
}

/// The head of the answer. A host behind the tunnel sends nothing before the client does, so that nothing follows the head.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(refused("its answer has no end"));
        }
        let mut more = [0; 1024];
        let read = stream.read(&mut more).await?;
        if read == 0 {
            return Err(refused("it ended the connection"));
        }
        answer.extend_from_slice(&more[..read]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
