//! What the handlers need, and what they read from a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::authz::{Authorizer, UserCaller};
use super::open_streams::OpenStreams;
use crate::http::agent_auth::address;
use crate::http::change_feed::ChangeFeed;
use crate::http::error::ApiError;
use crate::http::people::query;
use crate::http::probes::Probes;
use crate::http::rate_limit::FailedAuthLimiter;
use crate::state;
use crate::state::authz::Access;
use crate::state::store::Store;

/// What the handlers need.
#[derive(Debug)]
pub struct PeopleApi<S, A> {
    pub(crate) state: Arc<state::State<S>>,
    pub(crate) gate: Authorizer<A>,
    pub(crate) feed: Arc<ChangeFeed>,
    probes: Arc<Probes>,
    pub(crate) streams: OpenStreams,
    strangers: FailedAuthLimiter,
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    /// The API over these resources, gateways and changes.
    #[must_use]
    pub fn new(state: Arc<state::State<S>>, access: A, feed: Arc<ChangeFeed>, probes: Arc<Probes>) -> Self {
        let (streams, strangers) = (OpenStreams::default(), FailedAuthLimiter::default());
        Self { state, gate: Authorizer::new(access), feed, probes, streams, strangers }
    }
}

pub(crate) type PeopleState<S, A> = axum::extract::State<Arc<PeopleApi<S, A>>>;

/// Who asks. Nobody is let in before the caches have what there is: half of the agents would look like all.
pub(crate) struct Identified(pub(crate) UserCaller);

impl<S: Store, A: Access> FromRequestParts<Arc<PeopleApi<S, A>>> for Identified {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<PeopleApi<S, A>>) -> Result<Self, ApiError> {
        let address = address(parts);
        if !people.gate.is_familiar(&parts.headers) {
            people.strangers.admit(address).map_err(ApiError::too_many)?;
        }
        let caller = match people.gate.caller(&parts.headers).await {
            Err(error) if error.status == StatusCode::UNAUTHORIZED => {
                people.strangers.refused(address).map_err(ApiError::too_many)?;
                return Err(error);
            }
            caller => caller?,
        };
        if !people.probes.synced.load(Ordering::Relaxed) {
            let message =
                "the operator has just started and does not know all resources yet; try again in some seconds";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message));
        }
        Ok(Self(caller))
    }
}

/// The id in the path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| query::bad("the id in the path is no text in UTF-8"))
    }
}
