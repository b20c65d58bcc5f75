//! The reasons for an incomplete agent, with the messages of its conditions.

use super::desired::{Delivery, Desired, DesiredFile};
use super::observed::{ConfigAccess, Observed, Registration};
use crate::api::object_key::ObjectKey;
use crate::api::text::with_reason;
use crate::api::{AgentGateway, Reason};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{is_size_drop, prompt_position};

/// The reason for an incomplete agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The gateway is at work. A change on the gateway triggers the next reconcile.
    Pending(ReconcileError),
    /// A Step failed, or a resource is wrong. `transient` of the error says whether a retry may be enough.
    Failed(ReconcileError),
}

impl Blocker {
    /// The error that conditions and `status.lastError` show.
    #[must_use]
    pub fn error(&self) -> &ReconcileError {
        match self {
            Self::Pending(error) | Self::Failed(error) => error,
        }
    }

    /// Whether the AgentGateway is suspended, so that the state stays as last observed.
    #[must_use]
    pub fn is_suspension(&self) -> bool {
        self.error().reason == Reason::Suspended
    }
}

/// Why nothing is done on a suspended gateway.
#[must_use]
pub fn gateway_suspended(gateway: &AgentGateway) -> Option<ReconcileError> {
    let key = ObjectKey::of(&gateway.metadata);
    let message = || with_reason(&format!("AgentGateway {key} is suspended"), gateway.spec.suspend_reason.as_deref());
    gateway.spec.suspend.then(|| ReconcileError::transient(Reason::Suspended, message()))
}

pub(crate) fn id_taken(desired: &Desired) -> ReconcileError {
    let id = &desired.identity.agent_id;
    ReconcileError::permanent(
        Reason::AgentIdTaken,
        format!(
            "gateway {} already has an agent with the id {id:?} that this Agent did not make; choose another spec.agentId, remove that agent, or, to adopt it, create the Agent with spec.agentId {id:?} and spec.adoptionPolicy IfExists",
            desired.gateway
        ),
    )
}

/// The gateway knows the id and has no entry of this id. The effect of a second entry on the gateway is unknown.
pub(crate) fn no_entry(desired: &Desired) -> ReconcileError {
    let id = &desired.identity.agent_id;
    ReconcileError::permanent(
        Reason::AgentIdTaken,
        format!(
            "gateway {} shows an agent with the id {id:?} that has no entry of exactly this id in its config; give it one there (an id in another spelling is not enough), or choose another spec.agentId",
            desired.gateway
        ),
    )
}

pub(crate) fn secret_conflict(desired: &Desired) -> ReconcileError {
    ReconcileError::permanent(
        Reason::SecretConflict,
        format!(
            "Secret {:?} exists and does not belong to this Agent; remove it, or name another one in spec.token.secretName",
            desired.token_secret
        ),
    )
}

/// The entry waits until the gateway can write its config.
pub(crate) fn config_unwritable(desired: &Desired) -> ReconcileError {
    let text = format!(
        "the agent waits until the gateway can write its config; condition ConfigSynced of AgentGateway {} says what to do",
        desired.gateway
    );
    ReconcileError::permanent(Reason::ConfigNotWritable, text)
}

/// The blocker of an entry that is not in place yet.
pub(crate) fn entry_blocker(desired: &Desired, observed: &Observed) -> Blocker {
    if observed.config != ConfigAccess::Writable && observed.registration != Registration::Invisible {
        return Blocker::Pending(config_unwritable(desired));
    }
    if let Some((code, message)) = &observed.refused {
        let advice = if is_size_drop(message) {
            "it writes no config that becomes less than half as long, so make the change in steps, for example a shorter spec.heartbeat.prompt first in half of its length"
        } else {
            "change the field of the spec that it names"
        };
        let text = format!("the gateway refuses this agent's config entry: {message}; {advice}");
        return Blocker::Failed(ReconcileError::permanent(Reason::EntryRefused, text).with_code(code));
    }
    if let Some((code, message)) = &observed.delayed {
        let text = format!("this agent's config entry had no effect and is retried: {message}");
        return Blocker::Pending(ReconcileError::transient(Reason::EntryDelayed, text).with_code(code));
    }
    if observed.over_budget {
        let text = "the gateway's limit of config writes is used up; the entry is written when the gateway accepts writes again";
        return Blocker::Pending(ReconcileError::transient(Reason::RateLimited, text));
    }
    if observed.reload_is_off && observed.registration == Registration::Invisible {
        let text = "the entry is in the gateway's config, and gateway.reload.mode of the gateway is off; a restart of the gateway applies the entry, which some versions do by themselves after a patch";
        return Blocker::Pending(ReconcileError::transient(Reason::RestartRequired, text));
    }
    if !observed.settled {
        let text = "the gateway has not applied its own last config yet; the entry waits (up to 5 minutes after a crash of the gateway)";
        return Blocker::Pending(ReconcileError::transient(Reason::NotSettled, text));
    }
    let text = "the entry waits for the gateway's next config write; condition ConfigSynced of the AgentGateway shows a failed write";
    Blocker::Pending(ReconcileError::transient(Reason::WaitingForConfigWrite, text))
}

/// The error for a file that is too long: the first of them in the prompt, whose length decides what is left for the others.
pub(crate) fn too_large(desired: &Desired) -> Option<ReconcileError> {
    let too_long = desired.files.iter().flatten().filter_map(|file| match &file.delivery {
        Delivery::TooLarge { units, limit } => Some((file.name.as_str(), *units, *limit)),
        Delivery::Write { .. } | Delivery::Held { .. } | Delivery::Folded { .. } | Delivery::Unmanaged => None,
    });
    let (name, units, limit) = too_long.min_by_key(|(name, ..)| prompt_position(name))?;
    let sections = sections(desired, name);
    let parts = if sections.is_empty() {
        String::new()
    } else {
        format!(" with {} as sections, which this gateway takes as no files of their own", sections.join(", "))
    };
    let raise = if limit.setting.contains("bootstrap") { ", or raise that setting" } else { "" };
    let texts = match (sections.is_empty(), limit.is_rest) {
        (true, false) => "its template",
        (false, false) => "their templates",
        (true, true) => "its template, those of the files before it,",
        (false, true) => "their templates, those of the files before them,",
    };
    let rest = if limit.is_rest { "what the files before it leave of " } else { "" };
    let message = format!(
        "{name} is too long and stays as it was on the gateway: the new text{parts} has {units} characters, and the gateway passes on at most {} ({rest}{}) to the agent; shorten {texts} or the fields of the spec in the text{raise}",
        limit.units, limit.setting
    );
    Some(ReconcileError::permanent(Reason::FileTooLarge, message))
}

/// The files that are sections of this file.
fn sections<'a>(desired: &'a Desired, name: &str) -> Vec<&'a str> {
    let is_section = |file: &&DesiredFile| matches!(&file.delivery, Delivery::Folded { into } if name == into);
    desired.files.iter().flatten().filter(is_section).map(|file| file.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::agent::desired::Origin;
    use crate::core::agent::fixtures::applied;
    use crate::core::agent::step::Step;
    use crate::openclaw::model::FileLimit;

    fn obstructed(registration: Registration) -> Observed {
        Observed { registration, config: ConfigAccess::Obstructed, settled: true, ..Observed::default() }
    }

    #[test]
    fn nothing_is_made_for_an_agent_that_the_gateway_cannot_register() {
        for registration in [Registration::Absent, Registration::Outdated] {
            let mut fixture = applied();
            fixture.observed = obstructed(registration);
            let plan = fixture.plan();
            let error = plan.blocker.unwrap();
            assert_eq!((plan.steps, error.error().reason), (vec![], Reason::ConfigNotWritable), "{registration:?}");
            assert!(error.error().message.contains("ConfigSynced of AgentGateway"), "{}", error.error().message);
        }
    }

    #[test]
    fn a_creation_that_failed_waits_and_nothing_else_registers_its_agent() {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = Origin::Chosen;
        fixture.observed = Observed {
            config: ConfigAccess::Failed,
            settled: true,
            creation_in: Some(Duration::from_secs(9)),
            ..Observed::default()
        };
        let plan = fixture.plan();
        assert_eq!(plan.blocker.clone().unwrap().error().reason, Reason::ConfigNotWritable);
        assert!(!plan.again && !plan.steps.iter().any(|step| matches!(step, Step::SubmitEntry(_) | Step::Create(_))));
        fixture.observed.creation_in = None;
        assert!(fixture.plan().steps.iter().any(|step| matches!(step, Step::Create(_))), "{:?}", fixture.plan());
    }

    #[test]
    fn an_entry_that_is_as_desired_needs_no_writable_config() {
        let mut fixture = applied().working();
        fixture.observed = Observed { config: ConfigAccess::Obstructed, ..fixture.observed };
        assert_eq!(fixture.plan(), crate::core::agent::plan::Plan::default());
    }

    #[test]
    fn a_bound_agent_whose_entry_differs_waits_without_a_write() {
        for registration in [Registration::Absent, Registration::Outdated] {
            let mut fixture = applied().working();
            fixture.observed = obstructed(registration);
            let plan = fixture.plan();
            assert!(!plan.steps.iter().any(|step| matches!(step, Step::SubmitEntry(_) | Step::Create(_))), "{plan:?}");
            assert_eq!(plan.blocker.unwrap().error().reason, Reason::ConfigNotWritable, "{registration:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_names_its_sections_and_what_to_shorten() {
        let file =
            |name: &str, delivery| DesiredFile { name: name.into(), carries_token: false, is_adopted: false, delivery };
        let long = |setting| Delivery::TooLarge { units: 21_000, limit: FileLimit::of(20_000, setting) };
        let mut desired = applied().desired;
        let setting = "agents.defaults.bootstrapMaxChars of the gateway's config";
        let section = file("TOOLS.md", Delivery::Folded { into: "AGENTS.md".into() });
        desired.files = Some(vec![file("AGENTS.md", long(setting)), section]);
        let message = too_large(&desired).unwrap().message;
        for words in ["with TOOLS.md as sections", "shorten their templates", "or raise that setting"] {
            assert!(message.contains(words), "{words}: {message}");
        }
        desired.files = Some(vec![file("USER.md", long("the gateway's limit of USER.md"))]);
        let message = too_large(&desired).unwrap().message;
        assert!(message.contains("shorten its template") && !message.contains("raise"), "{message}");
        let setting = "agents.defaults.bootstrapTotalMaxChars of the gateway's config";
        let rest = FileLimit { is_rest: true, ..FileLimit::of(400, setting) };
        desired.files = Some(vec![file("USER.md", Delivery::TooLarge { units: 500, limit: rest })]);
        let message = too_large(&desired).unwrap().message;
        assert!(message.contains(&format!("at most 400 (what the files before it leave of {setting})")), "{message}");
        assert!(message.contains("shorten its template, those of the files before it, or the fields"), "{message}");
    }

    #[test]
    fn an_entry_that_would_make_the_config_much_shorter_says_how_to_change_it() {
        let mut fixture = applied().working();
        fixture.observed = Observed {
            registration: Registration::Outdated,
            settled: true,
            refused: Some(("UNAVAILABLE".into(), "Config write rejected: x (size-drop:4000->900).".into())),
            ..Observed::default()
        };
        let error = fixture.plan().blocker.unwrap().error().clone();
        assert_eq!(error.reason, Reason::EntryRefused);
        assert!(error.message.contains("in steps") && error.message.contains("spec.heartbeat.prompt"), "{error}");
    }

    #[test]
    fn an_entry_that_waits_for_a_restart_of_the_gateway_is_no_failure() {
        let mut fixture = applied().bound().with_token();
        fixture.observed.registration = Registration::Invisible;
        fixture.observed.reload_is_off = true;
        let blocker = fixture.plan().blocker.unwrap();
        assert_eq!(blocker.error().reason, Reason::RestartRequired);
        assert!(blocker.error().transient && matches!(blocker, Blocker::Pending(_)));
    }
}
