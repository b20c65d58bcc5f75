//! Reads the heartbeat jobs of a gateway: `cron.status`, and the pages of `cron.list`, once for all agents.

use std::collections::BTreeMap;

use serde_json::json;

use crate::openclaw::channel::{REQUEST_TIMEOUT, Requester};
use crate::openclaw::limits;
use crate::openclaw::model::heartbeat_jobs::{HeartbeatJobs, JobPage, SchedulerStatus};
use crate::openclaw::model::{CallError, RosterShape};

/// The number of jobs in a page, the most that the gateway sends.
pub(super) const JOBS_A_PAGE: usize = 200;
/// Most pages: a heartbeat of each agent, and as many other jobs with the word in their name.
const MAX_PAGES: usize = 2 * limits::AGENTS / JOBS_A_PAGE;

/// Reads the jobs of a gateway with this roster. Gateways with `agents.list` have none.
///
/// # Errors
/// The request that failed.
pub(super) async fn read(requester: &Requester, roster: RosterShape) -> Result<HeartbeatJobs, CallError> {
    match roster {
        RosterShape::List => Ok(HeartbeatJobs::NoJobs),
        RosterShape::Entries => read_all(requester).await,
    }
}

async fn read_all(requester: &Requester) -> Result<HeartbeatJobs, CallError> {
    let status: SchedulerStatus = requester.ask("cron.status", json!({}), REQUEST_TIMEOUT).await?;
    if status.enabled == Some(false) {
        return Ok(HeartbeatJobs::SchedulerOff);
    }
    let (mut jobs, mut offset) = (BTreeMap::new(), 0);
    for _ in 0..MAX_PAGES {
        let params = json!({ "includeDisabled": true, "includeDeliveryPreviews": false, "query": "heartbeat", "limit": JOBS_A_PAGE, "offset": offset });
        let page: JobPage = requester.ask("cron.list", params, REQUEST_TIMEOUT).await?;
        jobs.extend(page.heartbeats());
        match page.next().filter(|next| *next > offset) {
            Some(next) => offset = next,
            None => break,
        }
    }
    Ok(HeartbeatJobs::Listed(jobs))
}
