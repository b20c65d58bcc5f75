use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::souls::sitemap;
use crate::souls::urls::{self, DocumentKind};

/// A server that records the heads of its requests.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// A server that answers each request with `answer`, followed by endless bytes if `endless`.
async fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static, endless: bool) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                let text = answer(&head);
                seen.lock().unwrap().push(head);
                stream.write_all(text.as_bytes()).await?;
                if endless {
                    loop {
                        stream.write_all(&[b'x'; 1024]).await?;
                    }
                }
                stream.read_u8().await
            });
        }
    });
    Server { address, heads }
}

fn ok(content_type: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\netag: \"v1\"\r\n\r\n{body}")
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
}

fn soul(url: &str) -> FetchRequest {
    FetchRequest { url: url.parse().unwrap(), kind: DocumentKind::Soul, etag: None, allow_private: true }
}

async fn get(request: &FetchRequest) -> Result<Fetched, String> {
    HttpClient::default().fetch(request).await.map_err(|e| e.to_string())
}

async fn error(request: &FetchRequest) -> String {
    get(request).await.unwrap_err()
}

/// Resolves to one address after the other, and then to the last address.
struct ChangingResolver(Vec<SocketAddr>, AtomicUsize);

impl Resolve for ChangingResolver {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let at = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        Box::pin(async move { Ok(vec![self.0[at]]) })
    }
}

/// Resolves like [`ChangingResolver`], and connects each address to one server.
struct RedirectedResolver(ChangingResolver, SocketAddr);

impl Resolve for RedirectedResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve(host, port)
    }

    fn connect<'a>(&'a self, _: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.1))
    }
}

#[tokio::test]
async fn the_next_request_sends_the_etag_of_the_last_answer() {
    let not_modified = "HTTP/1.1 304 Not Modified\r\n\r\n";
    let server = server(
        move |head| {
            if head.contains("if-none-match: \"v1\"") {
                not_modified.into()
            } else {
                ok("text/markdown; charset=utf-8", "# Soul")
            }
        },
        false,
    )
    .await;
    let mut request = soul(&format!("http://{}/api/souls/a/b.md", server.address));
    let fetched = Fetched::Text { text: "# Soul".into(), etag: Some("\"v1\"".into()) };
    assert_eq!(get(&request).await, Ok(fetched));
    request.etag = Some("\"v1\"".into());
    assert_eq!(get(&request).await, Ok(Fetched::NotModified));
    let head = server.heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /api/souls/a/b.md HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.address)), "{head}");
}

#[tokio::test]
async fn a_directory_is_read_from_its_list_to_a_soul() {
    let answer = |head: &str| {
        let host = head.split("host: ").nth(1).unwrap().split('\r').next().unwrap();
        let page = format!("<url><loc>http://{host}/mirror/souls/ann/sre</loc></url>");
        match head.split(' ').nth(1).unwrap() {
            "/mirror/sitemap.xml" => ok("text/xml", &format!("<urlset>{page}</urlset>")),
            "/mirror/api/souls/ann/sre.md" => ok("text/markdown", "Stay calm."),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
        }
    };
    let server = server(answer, false).await;
    let directory: Url = format!("http://{}/mirror/", server.address).parse().unwrap();
    let list = FetchRequest { kind: DocumentKind::Sitemap, ..soul(urls::sitemap(&directory).as_str()) };
    let Ok(Fetched::Text { text, .. }) = get(&list).await else { panic!("no list") };
    let listed = sitemap::read(&directory, &text).unwrap();
    let fetched = get(&soul(listed[0].markdown(&directory).as_str())).await.unwrap();
    assert!(matches!(fetched, Fetched::Text { text, .. } if text == "Stay calm."));
}

#[tokio::test]
async fn a_404_is_missing_and_another_status_is_an_error() {
    let gone = server(|_| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(), false).await;
    assert_eq!(get(&soul(&format!("http://{}/", gone.address))).await, Ok(Fetched::Missing));
    let broken = server(|_| "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".into(), false).await;
    assert!(error(&soul(&format!("http://{}/", broken.address))).await.contains("503"));
}

#[tokio::test]
async fn a_private_address_needs_a_permission() {
    let server = server(|_| ok("text/plain", "x"), false).await;
    let port = server.address.port();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f.1"] {
        let request = FetchRequest { allow_private: false, ..soul(&format!("http://{host}:{port}/")) };
        assert!(error(&request).await.contains("loopback or private"), "{host}");
    }
    assert_eq!(server.heads.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_link_local_address_is_never_connected_to() {
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "[::]", "224.0.0.1"] {
        assert!(error(&soul(&format!("http://{host}/"))).await.contains("never connects"), "{host}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_checked_like_the_first_address() {
    let end = server(|_| ok("text/plain", "there"), false).await;
    let to = format!("http://{}/elsewhere", end.address);
    let begin = server(move |_| redirect(&to), false).await;
    let url = format!("http://{}/", begin.address);
    let fetched = get(&FetchRequest { etag: Some("\"mine\"".into()), ..soul(&url) }).await.unwrap();
    assert!(matches!(fetched, Fetched::Text { text, .. } if text == "there"));
    assert!(begin.heads.lock().unwrap()[0].contains("if-none-match"));
    assert!(!end.heads.lock().unwrap()[0].contains("if-none-match"), "another server gets no ETag");
    for (to, what) in [
        ("http://169.254.169.254/latest/meta-data", "never connects"),
        ("http://user:pw@127.0.0.1/", "credentials"),
        ("file:///etc/passwd", "neither http nor https"),
        ("http://[", "no address"),
    ] {
        let begin = server(move |_| redirect(to), false).await;
        assert!(error(&soul(&format!("http://{}/", begin.address))).await.contains(what), "{to}");
    }
}

#[tokio::test]
async fn redirects_are_bounded() {
    let begin = server(|_| redirect("/again"), false).await;
    assert!(error(&soul(&format!("http://{}/", begin.address))).await.contains("more than 3 times"));
    assert_eq!(begin.heads.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_name_is_resolved_and_checked_again_after_a_redirect() {
    let server = server(|_| redirect("/next"), false).await;
    let answers = vec![server.address, "169.254.169.254:80".parse().unwrap()];
    let client = HttpClient::new(Arc::new(ChangingResolver(answers, AtomicUsize::new(0))), FETCH_TIMEOUT);
    let request = soul("http://souls.example/");
    assert!(client.fetch(&request).await.unwrap_err().to_string().contains("never connects"));
    assert_eq!(server.heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_public_address_cannot_lead_to_a_private_address() {
    let (public, private) = ("93.184.216.34:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    for (to, answers) in [("http://10.0.0.1/", vec![public]), ("/next", vec![public, private])] {
        let server = server(move |_| redirect(to), false).await;
        let client = HttpClient::new(
            Arc::new(RedirectedResolver(ChangingResolver(answers, AtomicUsize::new(0)), server.address)),
            FETCH_TIMEOUT,
        );
        let request = FetchRequest { allow_private: false, ..soul("http://souls.example/") };
        let error = client.fetch(&request).await.unwrap_err().to_string();
        assert!(error.contains("loopback or private"), "{to}: {error}");
        assert_eq!(server.heads.lock().unwrap().len(), 1, "{to}");
    }
}

#[tokio::test]
async fn an_endless_body_and_a_long_body_are_refused() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    let endless = server(move |_| format!("{head}\r\n"), true).await;
    assert!(error(&soul(&format!("http://{}/", endless.address))).await.contains("longer than 65536 bytes"));
    let long = server(move |_| format!("{head}content-length: 99999999999\r\n\r\n"), false).await;
    assert!(error(&soul(&format!("http://{}/", long.address))).await.contains("longer than 65536 bytes"));
    let endless_head = server(|_| "HTTP/1.1 200 OK\r\nx: ".into(), true).await;
    assert!(error(&soul(&format!("http://{}/", endless_head.address))).await.contains("request failed"));
}

#[tokio::test]
async fn a_missing_body_ends_at_the_timeout() {
    let silent =
        server(|_| "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nab".into(), false).await;
    let client = HttpClient::new(Arc::new(SystemResolver), Duration::from_millis(200));
    let error = client.fetch(&soul(&format!("http://{}/", silent.address))).await.unwrap_err();
    assert!(error.to_string().contains("no complete answer within 200ms"));
}

#[tokio::test]
async fn another_type_and_a_compressed_body_are_refused() {
    let page = server(|_| ok("text/html", "<html>"), false).await;
    assert!(error(&soul(&format!("http://{}/", page.address))).await.contains("\"text/html\""));
    let zipped = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx";
    let zipped = server(move |_| zipped.into(), false).await;
    assert!(error(&soul(&format!("http://{}/", zipped.address))).await.contains("compressed"));
    let sitemap = server(|_| ok("application/xml", "<urlset/>"), false).await;
    let request =
        FetchRequest { kind: DocumentKind::Sitemap, ..soul(&format!("http://{}/sitemap.xml", sitemap.address)) };
    assert!(matches!(get(&request).await, Ok(Fetched::Text { .. })));
}
