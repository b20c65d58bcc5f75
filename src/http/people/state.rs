//! The state of the handlers of the API for people, and the extractors of their requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::authz::{Authorizer, UserCaller};
use super::open_streams::OpenStreams;
use crate::http::agent_auth::client_address;
use crate::http::change_feed::ChangeFeed;
use crate::http::error::ApiError;
use crate::http::probes::Probes;
use crate::http::rate_limit::FailedAuthLimiter;
use crate::state;
use crate::state::authz::Access;
use crate::state::store::Store;

/// The state of the handlers of the API for people.
#[derive(Debug)]
pub struct PeopleApi<S, A> {
    pub(crate) state: Arc<state::State<S>>,
    pub(crate) authorizer: Authorizer<A>,
    pub(crate) change_feed: Arc<ChangeFeed>,
    probes: Arc<Probes>,
    pub(crate) streams: OpenStreams,
    failed_auth: FailedAuthLimiter,
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    /// The state without open streams and with empty caches.
    #[must_use]
    pub fn new(state: Arc<state::State<S>>, access: A, change_feed: Arc<ChangeFeed>, probes: Arc<Probes>) -> Self {
        let (streams, failed_auth) = (OpenStreams::default(), FailedAuthLimiter::default());
        Self { state, authorizer: Authorizer::new(access), change_feed, probes, streams, failed_auth }
    }
}

pub(crate) type PeopleState<S, A> = axum::extract::State<Arc<PeopleApi<S, A>>>;

/// The authenticated caller. Requests are refused before the watches are in sync: an incomplete list of agents would look
/// complete.
pub(crate) struct Authenticated(pub(crate) UserCaller);

impl<S: Store, A: Access> FromRequestParts<Arc<PeopleApi<S, A>>> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<PeopleApi<S, A>>) -> Result<Self, ApiError> {
        let address = client_address(parts);
        if !people.authorizer.seen_before(&parts.headers) {
            people.failed_auth.check(address).map_err(ApiError::too_many)?;
        }
        let caller = match people.authorizer.authenticate(&parts.headers).await {
            Err(error) if error.status == StatusCode::UNAUTHORIZED => {
                people.failed_auth.record_failure(address).map_err(ApiError::too_many)?;
                return Err(error);
            }
            caller => caller?,
        };
        if !people.probes.synced.load(Ordering::Relaxed) {
            let message = "the operator has just started and does not know all resources yet; retry in a few seconds";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message));
        }
        Ok(Self(caller))
    }
}

/// The id in the path.
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::bad_request("the id in the path is not valid UTF-8"))
    }
}
