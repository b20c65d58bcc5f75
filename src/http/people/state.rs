//! The state of the handlers of the API for people, and the extractors of their requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::authz::{Authorizer, UserCaller};
use super::open_streams::OpenStreams;
use crate::http::change_feed::ChangeFeed;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::openapi::operation::{Audience, DescribedInput, Operation};
use crate::http::origin::RequestOrigin;
use crate::http::probes::Probes;
use crate::http::rate_limit::PeopleLimits;
use crate::state;
use crate::state::kube_authz::KubeAccess;

/// The state of the handlers of the API for people.
#[derive(Debug)]
pub struct PeopleApi {
    pub(crate) state: Arc<state::State>,
    pub(crate) authorizer: Authorizer,
    pub(crate) change_feed: Arc<ChangeFeed>,
    probes: Arc<Probes>,
    pub(crate) streams: OpenStreams,
    limits: PeopleLimits,
}

impl PeopleApi {
    /// The state without open streams and with empty caches.
    #[must_use]
    pub fn new(
        state: Arc<state::State>,
        access: KubeAccess,
        change_feed: Arc<ChangeFeed>,
        probes: Arc<Probes>,
    ) -> Self {
        let (streams, limits) = (OpenStreams::default(), PeopleLimits::default());
        Self { state, authorizer: Authorizer::new(access), change_feed, probes, streams, limits }
    }
}

pub(crate) type PeopleState = axum::extract::State<Arc<PeopleApi>>;

/// The authenticated caller. Requests are refused before the watches are in sync: an incomplete list of agents would look
/// complete.
pub(crate) struct Authenticated(pub(crate) UserCaller);

impl FromRequestParts<Arc<PeopleApi>> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<PeopleApi>) -> Result<Self, ApiError> {
        let network = RequestOrigin::of(&parts.extensions).network;
        let limits = &people.limits;
        // A known person is not limited by the failures of others at the same address, and is limited before the next review.
        let known = people.authorizer.known_user(&parts.headers);
        match &known {
            Some(user) => limits.user(&user.name).map_err(ApiError::too_many)?,
            None => limits.failed_auth.check(network).map_err(ApiError::too_many)?,
        }
        let caller = match people.authorizer.authenticate(&parts.headers).await {
            Err(error) if error.code == ErrorCode::Unauthorized => {
                limits.failed_auth.record_failure(network).map_err(ApiError::too_many)?;
                return Err(error);
            }
            caller => caller?,
        };
        if known.is_none() {
            limits.user(caller.name()).map_err(ApiError::too_many)?;
        }
        if !people.probes.synced.load(Ordering::Relaxed) {
            let message = "the operator has just started and does not know all resources yet; retry in a few seconds";
            return Err(ApiError::new(ErrorCode::Starting, message));
        }
        Ok(Self(caller))
    }
}

impl DescribedInput for Authenticated {
    fn describe(operation: &mut Operation) {
        operation.audience = Audience::Person;
        operation.errors.extend([
            ErrorCode::Unauthorized,
            ErrorCode::Forbidden,
            ErrorCode::TlsRequired,
            ErrorCode::TooManyRequests,
            ErrorCode::Starting,
            ErrorCode::KubernetesUnavailable,
            ErrorCode::ReviewsNotPermitted,
        ]);
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

impl DescribedInput for PathId {
    fn describe(operation: &mut Operation) {
        operation.errors.extend([ErrorCode::BadRequest, ErrorCode::NotFound]);
    }
}
