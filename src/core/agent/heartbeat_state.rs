//! The heartbeat of an agent on its gateway: when it runs the agent, and what keeps it from bringing a call of the agent.

use jiff::Timestamp;

use super::active_hours::HeartbeatHours;
use super::desired::{Delivery, DesiredFile};
use crate::api::agent::{AgentStatus, DriftPolicy, FilePolicy};
use crate::api::conditions::{ConditionStatus, find};
use crate::api::shared::ActiveHours;
use crate::api::{ConditionType, Reason};
use crate::openclaw::model::{
    AgentActivity, ConfiguredHours, HeartbeatDefaults, HeartbeatHistory, HeartbeatJobs, HeartbeatResult, Inventory,
    RosterShape, SkipReason,
};

/// The workspace file that older gateways read before a heartbeat.
const HEARTBEAT_FILE: &str = "HEARTBEAT.md";

/// The heartbeat of an agent in the answers and events of its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedHeartbeat {
    /// The daily window, from the agent's entry or from the defaults of the gateway's config.
    pub hours: Option<ActiveHours>,
    /// What keeps the heartbeat from working.
    pub flaw: Option<HeartbeatFlaw>,
    /// Whether it is known how the heartbeats went, or the gateway does not show it.
    pub is_known: bool,
    /// When the gateway last skipped a heartbeat, by our clock.
    pub skipped_at: Option<Timestamp>,
    /// Whether the gateway shows the outcome of each heartbeat.
    pub shows_outcomes: bool,
    /// Whether the gateway skipped the last heartbeat because of the hours.
    pub is_quiet: bool,
}

/// What keeps a heartbeat from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeartbeatFlaw {
    /// The jobs of the gateway cannot be read.
    Unreadable(String),
    /// The scheduler of the gateway is off, by its config or by its environment.
    SchedulerOff {
        /// Whether `cron.enabled` is false.
        by_config: bool,
    },
    /// The gateway has no heartbeat job for the agent.
    NotScheduled,
    /// The heartbeat job is disabled.
    JobDisabled,
    /// The daily window is empty.
    EmptyHours,
    /// Heartbeat runs get no workspace files.
    FilesHidden,
    /// The rendered HEARTBEAT.md has no task, so that a gateway that reads it skips the heartbeats.
    EmptyFile,
    /// The gateway skips the heartbeats.
    Skipped(SkipReason),
    /// The last heartbeat failed.
    Failed(String),
}

impl ObservedHeartbeat {
    /// The heartbeat of an agent. `our_time` translates milliseconds since 1970 by the gateway's clock.
    #[must_use]
    pub fn of(
        id: &str,
        inventory: &Inventory,
        jobs: Option<&HeartbeatJobs>,
        activity: Option<&AgentActivity>,
        our_time: impl Fn(i64) -> Timestamp,
    ) -> Self {
        let listed = match jobs {
            Some(HeartbeatJobs::Listed(jobs)) => jobs.get(id).and_then(|job| job.last.clone()),
            Some(HeartbeatJobs::NoJobs | HeartbeatJobs::Unreadable(_) | HeartbeatJobs::SchedulerOff) | None => None,
        };
        let mut history = HeartbeatHistory::default();
        if let Some(outcome) = listed {
            history.record(outcome);
        }
        let history = activity.map_or(history.clone(), |activity| history.then(&activity.heartbeats));
        let configured = inventory.heartbeat(id);
        let hides_files = configured.light_context && inventory.capabilities.roster == RosterShape::Entries;
        let hours = configured.active_hours.as_ref().and_then(status_hours);
        let shows_outcomes = matches!(jobs, Some(HeartbeatJobs::Listed(_)));
        let last = history.last.as_ref().map(|last| &last.result);
        Self {
            flaw: scheduler_flaw(id, jobs, &inventory.heartbeat_defaults)
                .or_else(|| {
                    (HeartbeatHours::of(hours.as_ref()) == HeartbeatHours::Never).then_some(HeartbeatFlaw::EmptyHours)
                })
                .or_else(|| hides_files.then_some(HeartbeatFlaw::FilesHidden))
                .or_else(|| outcome_flaw(&history)),
            is_known: !shows_outcomes || history.verdict.is_some(),
            skipped_at: history.skipped_ms.map(our_time),
            is_quiet: last == Some(&HeartbeatResult::Skipped(SkipReason::QuietHours)),
            shows_outcomes,
            hours,
        }
    }
}

impl ObservedHeartbeat {
    /// The heartbeat with regard to the files that Muster writes. Gateways with `agents.list` read HEARTBEAT.md.
    #[must_use]
    pub fn with_files(self, roster: RosterShape, files: &[DesiredFile]) -> Self {
        let is_empty = |file: &DesiredFile| match &file.delivery {
            Delivery::Write { policy: FilePolicy::Always, drift: DriftPolicy::Correct, content } => {
                file.name == HEARTBEAT_FILE && has_no_task(content.expose())
            }
            Delivery::Write { .. }
            | Delivery::Held { .. }
            | Delivery::Folded { .. }
            | Delivery::TooLarge { .. }
            | Delivery::Unmanaged => false,
        };
        let skips = roster == RosterShape::List && files.iter().any(is_empty);
        Self { flaw: self.flaw.or_else(|| skips.then_some(HeartbeatFlaw::EmptyFile)), ..self }
    }
}

/// Whether a text has blank lines, headings and empty list items only.
fn has_no_task(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| {
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len() && (heading.is_empty() || heading.starts_with(char::is_whitespace));
        let item = line.strip_prefix(['-', '*', '+']).map(str::trim_start);
        line.is_empty() || is_heading || item.is_some_and(|item| matches!(item, "" | "[]" | "[ ]" | "[x]" | "[X]"))
    })
}

fn scheduler_flaw(id: &str, jobs: Option<&HeartbeatJobs>, defaults: &HeartbeatDefaults) -> Option<HeartbeatFlaw> {
    match jobs? {
        HeartbeatJobs::NoJobs => None,
        HeartbeatJobs::Unreadable(error) => Some(HeartbeatFlaw::Unreadable(error.clone())),
        HeartbeatJobs::SchedulerOff => Some(HeartbeatFlaw::SchedulerOff { by_config: defaults.cron_disabled }),
        HeartbeatJobs::Listed(jobs) => match jobs.get(id) {
            None => Some(HeartbeatFlaw::NotScheduled),
            Some(job) if !job.enabled => Some(HeartbeatFlaw::JobDisabled),
            Some(_) => None,
        },
    }
}

fn outcome_flaw(history: &HeartbeatHistory) -> Option<HeartbeatFlaw> {
    match &history.verdict.as_ref()?.result {
        HeartbeatResult::Ran => None,
        HeartbeatResult::Skipped(reason) => Some(HeartbeatFlaw::Skipped(reason.clone())),
        HeartbeatResult::Failed(reason) => Some(HeartbeatFlaw::Failed(reason.clone())),
    }
}

/// A window for the status; `None` for a window that the gateway ignores because it cannot read it.
fn status_hours(hours: &ConfiguredHours) -> Option<ActiveHours> {
    let ConfiguredHours { start, end, timezone } = hours.clone();
    let hours = ActiveHours { start, end, timezone: timezone.filter(|zone| zone.len() <= 64) };
    (HeartbeatHours::of(Some(&hours)) != HeartbeatHours::Always).then_some(hours)
}

impl HeartbeatFlaw {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreadable(_) => Reason::HeartbeatUnknown,
            Self::SchedulerOff { .. } | Self::JobDisabled | Self::EmptyHours | Self::Skipped(SkipReason::Disabled) => {
                Reason::HeartbeatsOff
            }
            Self::NotScheduled => Reason::HeartbeatNotScheduled,
            Self::FilesHidden => Reason::FilesHidden,
            Self::Skipped(_) | Self::EmptyFile => Reason::HeartbeatSkipped,
            Self::Failed(_) => Reason::HeartbeatFailed,
        }
    }

    /// The status of the condition.
    #[must_use]
    pub fn status(&self) -> ConditionStatus {
        match self {
            Self::Unreadable(_) => ConditionStatus::Unknown,
            Self::SchedulerOff { .. }
            | Self::NotScheduled
            | Self::JobDisabled
            | Self::EmptyHours
            | Self::FilesHidden
            | Self::EmptyFile
            | Self::Skipped(_)
            | Self::Failed(_) => ConditionStatus::False,
        }
    }

    /// The message of the condition: the cause and the next step.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Unreadable(error) => format!(
                "it is not known whether the heartbeat works, because the jobs of the gateway cannot be read: {error}. Muster reads them again at the next resync"
            ),
            Self::SchedulerOff { by_config: true } => {
                "the gateway runs no heartbeat, because cron.enabled is false in its config; set it to true".into()
            }
            Self::SchedulerOff { by_config: false } => {
                "the gateway runs no heartbeat, because its scheduler is off although its config does not say so; remove OPENCLAW_SKIP_CRON from its environment, or restart it after a change of cron.enabled".into()
            }
            Self::NotScheduled => {
                "the gateway has no heartbeat job for the agent; it makes one when it applies its config. If the reason stays, see the gateway's log".into()
            }
            Self::JobDisabled => {
                "the agent's heartbeat job is disabled on the gateway; enable it there with openclaw cron enable".into()
            }
            Self::EmptyHours => {
                "the gateway runs no heartbeat, because the active hours begin and end at the same time; correct spec.heartbeat.activeHours, or agents.defaults.heartbeat.activeHours in the gateway's config".into()
            }
            Self::FilesHidden => {
                "heartbeat runs get no workspace files, and with them no check-in command, because lightContext is true; set it to false in the heartbeat of the agent's entry".into()
            }
            Self::EmptyFile => {
                "the gateway skips the heartbeats, because the rendered HEARTBEAT.md has headings and empty items only; write a task into its template".into()
            }
            Self::Skipped(SkipReason::NoRoute) => {
                "the gateway skips the heartbeats, because the target of their answers has no route; set spec.heartbeat.target to none, or connect the channel".into()
            }
            Self::Skipped(SkipReason::EmptyScratch) => {
                "the gateway skips the heartbeats, because the scratch of the heartbeat job has no task; write a task into it on the gateway, or remove it".into()
            }
            Self::Skipped(SkipReason::Disabled) => {
                "the gateway runs no heartbeat, because heartbeats are turned off on it; turn them on there with openclaw system heartbeat enable".into()
            }
            Self::Skipped(SkipReason::QuietHours) => "the gateway skipped the heartbeat outside the active hours".into(),
            Self::Skipped(SkipReason::Other(reason)) => {
                format!("the gateway skipped the last heartbeats ({reason}){}", skip_advice(reason))
            }
            Self::Failed(reason) => format!(
                "the last heartbeat failed ({reason}); look at the agent's session on the gateway, and at its model"
            ),
        }
    }
}

/// The cause of a skip whose reason may pass, and the next step (`docs/gateway-facts.md#heartbeat-jobs`).
fn skip_advice(reason: &str) -> &'static str {
    match reason {
        "requests-in-flight" | "active-run" => {
            ", because a run of the agent, or another request in the gateway's main queue, was not over; if that goes on, look for a run that does not end in its sessions on the gateway, and stop it"
        }
        "cron-in-progress" => {
            ", because another job of its scheduler ran, such as the heartbeat of another agent; find the job that does not end with openclaw cron list there, for example one whose model answers 429"
        }
        "channel-not-ready" => {
            ", because the channel of their answers was not ready; connect the channel, or set spec.heartbeat.target to none"
        }
        "alerts-disabled" => {
            ", because the channel of their answers shows nothing of them; set showOk, showAlerts or useIndicator in the heartbeatVisibility of the channel to true, or set spec.heartbeat.target to none"
        }
        "preempted" => {
            ", because another run of the same session took their place; find what starts these runs in the agent's session on the gateway"
        }
        "agent-runner-cancelled" => ", because their runs were cancelled; find what cancels them in the gateway's log",
        "not-due" | "min-spacing" | "flood" => {
            ", because the runs of the agent follow each other too closely; set a longer spec.heartbeat.interval, or find in the gateway's log what else runs the agent"
        }
        "handler-unavailable" => ", because it starts or stops; if that goes on, see its log",
        "store-replaced" => ", because its session store was replaced meanwhile; if that goes on, see its log",
        _ => "; see the gateway's log for the cause",
    }
}

/// When a gateway's heartbeats bring calls of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueCalls {
    /// Whether the heartbeats bring none at all.
    pub stopped: bool,
    /// The hours of the heartbeats.
    pub hours: HeartbeatHours,
}

/// The reasons of `HeartbeatConfigured` with which no call is due.
const WITHOUT_CALLS: [Reason; 4] =
    [Reason::HeartbeatsOff, Reason::HeartbeatNotScheduled, Reason::FilesHidden, Reason::HeartbeatSkipped];

impl DueCalls {
    /// When calls are due, as observed, or by the status while the gateway is unreachable.
    #[must_use]
    pub fn of(observed: Option<&ObservedHeartbeat>, status: &AgentStatus) -> Self {
        let recorded =
            || find(&status.conditions, ConditionType::HeartbeatConfigured).map(|before| before.reason.clone());
        let is_without_calls = |reason: &str| WITHOUT_CALLS.iter().any(|without| without.as_str() == reason);
        let (stopped, hours, shows_outcomes) = match observed {
            // The last skipped heartbeat moves the begin of the silence.
            Some(ObservedHeartbeat { flaw: Some(HeartbeatFlaw::Skipped(SkipReason::Other(_))), hours, .. }) => {
                (false, hours.as_ref(), true)
            }
            Some(ObservedHeartbeat { flaw, hours, shows_outcomes, .. }) => {
                let is_stopped = flaw.as_ref().is_some_and(|flaw| is_without_calls(flaw.reason().as_str()));
                (is_stopped, hours.as_ref(), *shows_outcomes)
            }
            None => {
                let is_stopped = recorded().is_some_and(|reason| is_without_calls(&reason));
                (is_stopped, status.active_hours.as_deref(), false)
            }
        };
        let hours = match HeartbeatHours::of(hours) {
            // Each heartbeat outside the hours is skipped, and the gateway shows it.
            HeartbeatHours::Unknown if shows_outcomes => HeartbeatHours::Always,
            hours => hours,
        };
        Self { stopped, hours }
    }

    /// Whether no call is due at any time.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.stopped || matches!(self.hours, HeartbeatHours::Never | HeartbeatHours::Unknown)
    }
}

#[cfg(test)]
#[path = "heartbeat_state_tests.rs"]
mod tests;
