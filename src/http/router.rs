//! All routes of the HTTP API and the page as one router.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;

use super::api::AgentApi;
use super::confidential::{self, HttpTokens};
use super::forward::WayToLeader;
use super::people::{self, PeopleApi};
use super::{agents, ui};

/// The APIs for agents and for people, and the fleet page.
///
/// # Guarantees
/// A request of a person without TLS is refused or redirected, as `tokens` says. No cache keeps an answer of the APIs, and no browser
/// guesses its type.
pub fn router(agents: Arc<AgentApi>, people: Arc<PeopleApi>, leader: WayToLeader, tokens: HttpTokens) -> Router {
    let people = people::router(people).layer(from_fn_with_state(tokens, confidential::refuse));
    let page = ui::router().layer(from_fn_with_state(tokens, confidential::redirect));
    agents::router(agents, leader).merge(people).layer(map_response(uncached)).merge(page)
}

/// The answer with the headers of an answer that concerns its caller alone.
async fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
