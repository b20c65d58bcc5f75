//! The way in: an HTTP service, and a client of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::{BoxError, Service};

use crate::answer::{self, Answer, View};
use crate::collect;
use crate::database::{Database, OpenError};
use crate::objects::Objects;
use crate::refusal::Refusal;
use crate::request::{Call, Unread, WriteOptions};
use crate::resource::{NAMESPACES, Resources};
use crate::reviews;
use crate::shared::Shared;
use crate::watch;
use crate::write::{Deletion, Writer};

/// The most bytes of a request's body, as at kube-apiserver.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// The namespaces that there are from the start.
const FIRST_NAMESPACES: [&str; 2] = ["default", "kube-system"];
/// The version that the API says it is: the one that it is compared with.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// A Kubernetes API in the process.
///
/// # Guarantees
/// A write and what follows from it (garbage, emptied namespaces) are seen by all later requests, and by watches in their order.
#[derive(Clone)]
pub struct EmbeddedApi {
    shared: Arc<Shared>,
    clock: Clock,
    /// Whether a request needs the administrator's token.
    needs_token: bool,
}

impl fmt::Debug for EmbeddedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedApi").finish_non_exhaustive()
    }
}

impl EmbeddedApi {
    /// An API in memory, with these kinds.
    ///
    /// # Errors
    /// The system has no random numbers for the uids of the first namespaces.
    pub fn in_memory(resources: Resources, clock: Clock) -> Result<Self, String> {
        let api = Self::of(Shared::new(resources, Objects::new(), None, None), clock);
        api.create_first_namespaces().map_err(|refusal| refusal.message)?;
        Ok(api)
    }

    /// An API in a file, with the kinds of these definitions beside its own. `admin` is the token of [`Self::for_tokens`].
    ///
    /// # Errors
    /// The file cannot be opened, or a definition cannot be served.
    pub fn in_file(
        file: &Path,
        definitions: &[CustomResourceDefinition],
        admin: SecretString,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let resources = Resources::new(definitions).map_err(|error| OpenError::File(error.to_string()))?;
        let (database, objects) = Database::open(file, &resources)?;
        let is_new = objects.is_none();
        let objects = objects.unwrap_or_else(Objects::new);
        let api = Self::of(Shared::new(resources, objects, Some(database), Some(admin)), clock);
        if is_new {
            api.create_first_namespaces().map_err(|refusal| OpenError::File(refusal.message))?;
        }
        Ok(api)
    }

    fn of(shared: Shared, clock: Clock) -> Self {
        Self { shared: Arc::new(shared), clock, needs_token: false }
    }

    fn create_first_namespaces(&self) -> Result<(), Refusal> {
        for name in FIRST_NAMESPACES {
            let namespace = json!({ "metadata": { "name": name } });
            self.write(|writer| writer.create(NAMESPACES, None, namespace, WriteOptions::default()))?;
        }
        Ok(())
    }

    /// The same API for requests from outside of the process: each needs the administrator's bearer token.
    #[must_use]
    pub fn for_tokens(&self) -> Self {
        Self { needs_token: true, ..self.clone() }
    }

    /// All objects, for a file that [`Self::restore`] reads.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let objects = self.shared.objects();
        objects.all().map(|(_, object)| (**object).clone()).collect()
    }

    /// Puts the objects of a snapshot into a new API. They keep their uids and their owners.
    ///
    /// # Errors
    /// The first object that this API does not serve, or that cannot be stored.
    pub fn restore(&self, snapshot: &Value) -> Result<usize, String> {
        let objects = snapshot.as_array().ok_or("the snapshot is no list of objects")?;
        let restored = self.write(|writer| restore_all(writer, objects))?;
        Ok(restored)
    }

    /// A client with all rights.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Forgets the history, so that a watch which is behind loses its place (410).
    pub fn compact(&self) {
        self.shared.objects().compact();
    }

    /// Writes, and does what follows from it. A failed write to the disk changes nothing.
    fn write<T, E: From<Refusal>>(&self, write: impl FnOnce(&mut Writer<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut objects = self.shared.objects();
        let before = objects.revision();
        let mut writer = Writer {
            objects: &mut objects,
            resources: &self.shared.resources,
            now: (self.clock)(),
            causes: VecDeque::new(),
            warnings: Vec::new(),
        };
        let outcome = write(&mut writer);
        collect::settle(&mut writer);
        self.shared.commit(&mut objects, before)?;
        let revision = objects.revision();
        drop(objects);
        self.shared.revisions.send_if_modified(|last| std::mem::replace(last, revision) != revision);
        outcome
    }

    /// The answer to a write. Its warnings are there if it is refused too.
    fn written(&self, code: u16, write: impl FnOnce(&mut Writer<'_>) -> Result<Arc<Value>, Refusal>) -> Answer {
        let mut warnings = Vec::new();
        let outcome = self.write(|writer| {
            let outcome = write(writer);
            warnings.append(&mut writer.warnings);
            outcome
        });
        match outcome {
            Ok(object) => Answer { code, body: (*object).clone(), warnings },
            Err(refusal) => Answer { warnings, ..Answer::refused(&refusal) },
        }
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<AnswerBody>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        if self.needs_token && !reviews::is_admin(self.shared.admin.as_ref(), bearer(&parts)) {
            return whole(Answer::refused(&Refusal::unauthorized()));
        }
        let call = match Call::parse(&parts, &self.shared.resources) {
            Ok(call) => call,
            Err(Unread::NoSuchPath) => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Err(Unread::Refused(refusal)) => return whole(Answer::refused(&refusal)),
        };
        let view = View::of(header_text(&parts, &header::ACCEPT));
        if let Call::Watch(scope, options) = call {
            return match watch::start(&self.shared, scope, &options, view) {
                Ok(events) => streamed(events),
                Err(refusal) => whole(Answer::refused(&refusal)),
            };
        }
        let answered = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => self.answer_call(call, &body.to_bytes(), view),
            Err(_) => Err(Refusal::too_large(MAX_BODY)),
        };
        whole(answered.unwrap_or_else(|refusal| Answer::refused(&refusal)))
    }

    fn answer_call(&self, call: Call, body: &[u8], view: View) -> Result<Answer, Refusal> {
        let resources = &self.shared.resources;
        match call {
            Call::Version => {
                let (major, minor, version) = VERSION;
                Ok(Answer::ok(json!({ "major": major, "minor": minor, "gitVersion": version, "gitCommit": "",
                    "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" })))
            }
            Call::Health => Ok(Answer::ok(json!("ok"))),
            Call::Get(key) => {
                let objects = self.shared.objects();
                let found =
                    objects.get(&key).ok_or_else(|| Refusal::not_found(resources.get(key.resource), &key.name))?;
                Ok(Answer::ok((*view.of_object(found)).clone()))
            }
            Call::List(scope, options) => {
                Ok(Answer::ok(answer::list(&self.shared.objects(), resources, &scope, &options, view)?))
            }
            Call::Create(scope, options) => {
                let (body, namespace) = (read(body)?, scope.namespace.as_deref());
                Ok(self.written(201, |writer| writer.create(scope.resource, namespace, body, options)))
            }
            Call::Replace(key, part, options) => {
                let body = read(body)?;
                Ok(self.written(200, |writer| writer.replace(&key, body, part, options)))
            }
            Call::Patch(key, part, kind, options) => {
                let patch = kind.read(body)?;
                Ok(self.written(200, |writer| writer.patch(&key, &patch, part, options)))
            }
            Call::Delete(key, options) => {
                let options = options.with_body(body)?;
                match self.write(|writer| writer.delete(&key, &options))? {
                    Deletion::Pending(object) => Ok(Answer::ok((*object).clone())),
                    Deletion::Done(object) => Ok(Answer::deleted(resources.get(key.resource), &object)),
                }
            }
            Call::Review(kind) => Ok(reviews::answer(kind, read(body)?, self.shared.admin.as_ref())),
            Call::Watch(..) => Err(Refusal::internal("a watch has no whole answer")),
        }
    }
}

fn header_text<'a>(parts: &'a Parts, name: &header::HeaderName) -> &'a str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The bearer token of a request.
fn bearer(parts: &Parts) -> &str {
    header_text(parts, &header::AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default()
}

/// Puts the objects of a snapshot in place, each as it is.
fn restore_all(writer: &mut Writer<'_>, objects: &[Value]) -> Result<usize, String> {
    for object in objects {
        let key = writer.key_of(object)?;
        writer.objects.put(&key, object.clone());
    }
    Ok(objects.len())
}

fn read(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

fn response(code: StatusCode, content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(code: StatusCode, text: &'static str) -> Response<AnswerBody> {
    response(code, "text/plain; charset=utf-8", Full::from(text).boxed_unsync())
}

fn whole(answer: Answer) -> Response<AnswerBody> {
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Full::from(answer.body.to_string()).boxed_unsync();
    let mut response = response(code, "application/json", body);
    for warning in answer.warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", crate::text::quoted(&warning))) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn streamed(events: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response<AnswerBody> {
    let body = StreamBody::new(events.map(|event| Ok(Frame::data(event))));
    response(StatusCode::OK, "application/json", UnsyncBoxBody::new(body))
}

impl<B> Service<Request<B>> for EmbeddedApi
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}
