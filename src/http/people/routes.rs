//! The routes of the API for people, and the document of all routes.

use std::sync::{Arc, LazyLock};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::state::PeopleApi;
use super::{list, read, stream, template_sync, write};
use crate::http::agents;
use crate::http::error::ErrorCode::{Ambiguous, Conflict, Invalid, NotFound, TlsRequired, TooManyStreams};
use crate::http::openapi::document::document;
use crate::http::openapi::operation::{Content, DescribedOutput, Operation, Success};
use crate::http::openapi::route::{About, Route};

/// The `OpenAPI` document of the whole HTTP API.
pub static OPENAPI: LazyLock<String> = LazyLock::new(|| {
    let (people, agents) = (routes(), agents::routes());
    let people = people.iter().map(|route| &route.description);
    let agents = agents.iter().map(|route| &route.description);
    document(people.chain(agents)).to_string()
});

/// The routes.
pub(super) fn routes() -> Vec<Route<Arc<PeopleApi>>> {
    let document = About {
        id: "openapi",
        summary: "Shows this document. The call needs no token.",
        errors: &[TlsRequired],
        ..About::default()
    };
    let mut routes = agent_routes();
    routes.extend(parent_routes());
    routes.push(Route::get("/openapi.json", openapi, document));
    routes
}

/// The routes of agents.
fn agent_routes() -> Vec<Route<Arc<PeopleApi>>> {
    const LIST: About = About {
        id: "listAgents",
        summary: "Lists agents, the oldest first.",
        description: "With `is_mc_agent=false`, agents on several gateways may have the same id.",
        rights: "`list agents`; with `is_mc_agent=false` `get agentgateways`, and with `namespace` also `list agentgateways`",
        errors: &[NotFound],
    };
    const CREATE: About = About {
        id: "createAgent",
        summary: "Creates an Agent.",
        description: "A worker or lead is created in the namespace of its board.",
        rights: "`create agents`; `get` on its board or gateway",
        errors: &[NotFound, Conflict, Invalid],
    };
    const STREAM: About = About {
        id: "streamAgents",
        summary: "Sends the changes of agents as Server-Sent Events.",
        description: "The stream sends the state of all agents first, then each change. A slow reader skips states in between. \
                      A deleted agent has the status `deleted`. Every 15 seconds the stream sends a comment, and Muster checks the rights again. The \
                      stream ends when the caller has lost them.",
        rights: "`list agents`",
        errors: &[NotFound, TooManyStreams],
    };
    const SHOW: About = About {
        id: "getAgent",
        summary: "Shows an agent with its conditions, files, token (never the token itself), wakes and requests.",
        description: "",
        rights: "`get agents`; for an agent without an Agent resource `get agentgateways`",
        errors: &[Ambiguous],
    };
    const UPDATE: About = About {
        id: "updateAgent",
        summary: "Changes the given fields of an agent.",
        description: "The other fields stay.",
        rights: "`patch agents`",
        errors: &[Conflict, Ambiguous, Invalid],
    };
    const DELETE: About = About {
        id: "deleteAgent",
        summary: "Removes an agent, its session, its workspace and its token.",
        description: "",
        rights: "`delete agents`",
        errors: &[Conflict, Ambiguous, Invalid],
    };
    const EVENTS: About = About {
        id: "listAgentEvents",
        summary: "Shows the events of an agent, the newest first.",
        description: "",
        rights: "`get agents`; `list events.events.k8s.io`",
        errors: &[Conflict, Ambiguous, Invalid],
    };
    vec![
        Route::get("/api/v1/agents", list::agents, LIST),
        Route::post("/api/v1/agents", write::create, CREATE),
        Route::get("/api/v1/agents/stream", stream::agents, STREAM),
        Route::get("/api/v1/agents/{id}", read::agent, SHOW),
        Route::patch("/api/v1/agents/{id}", write::patch, UPDATE),
        Route::delete("/api/v1/agents/{id}", write::delete, DELETE),
        Route::get("/api/v1/agents/{id}/events", read::events, EVENTS),
    ]
}

/// The routes of Boards and AgentGateways.
fn parent_routes() -> Vec<Route<Arc<PeopleApi>>> {
    const BOARDS: About = About {
        id: "listBoards",
        summary: "Lists Boards.",
        description: "",
        rights: "`list boards`",
        errors: &[NotFound],
    };
    const GATEWAYS: About = About {
        id: "listGateways",
        summary: "Lists AgentGateways.",
        description: "",
        rights: "`list agentgateways`",
        errors: &[NotFound],
    };
    const SYNC: About = About {
        id: "syncTemplates",
        summary: "Has everything of a gateway's agents read and written again.",
        description: "The call annotates the AgentGateway, with `board_id` the Board, and with `lead_only=true` or `include_main=false` each \
                      matching agent.",
        rights: "`get agentgateways`; `patch` on the annotated objects",
        errors: &[Conflict, Invalid],
    };
    vec![
        Route::get("/api/v1/boards", list::boards, BOARDS),
        Route::get("/api/v1/gateways", list::gateways, GATEWAYS),
        Route::post("/api/v1/gateways/{id}/templates/sync", template_sync::templates, SYNC),
    ]
}

/// The answer with the document.
struct Document;

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str()).into_response()
    }
}

impl DescribedOutput for Document {
    fn describe(operation: &mut Operation) {
        operation.success = Some(Success { status: StatusCode::OK, content: Content::Json(any_object) });
    }
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "description": "The document: OpenAPI 3.1." })
}

async fn openapi() -> Document {
    Document
}
