use serde_json::json;

use super::*;
use crate::api::conditions::{find, set};
use crate::core::agent::conclude::{Conclusion, PassEnd, conclude};
use crate::core::agent::fixtures::{applied, at, binding};
use crate::core::agent::memory_objects::MemoryObjects;
use crate::core::agent::status_input::StatusInput;

fn target() -> ObserverTarget {
    let identity = AgentIdentity::derive(Role::Worker, Some("nova"), "", "");
    ObserverTarget {
        identity: AgentIdentity { workspace: String::new(), ..identity },
        gateway: ObjectKey::new("fleet", "gw"),
        requests: Requests::default(),
        is_suspended: false,
        resync_interval: Duration::from_mins(10),
    }
}

fn served() -> SeenAgent {
    SeenAgent { is_served: true, is_configured: true, workspace: Some("/srv/nova".into()), ..SeenAgent::default() }
}

/// Concludes a pass at 1000 s.
fn concluded(old: &AgentStatus, is_bound: bool, seen: Option<&SeenAgent>, end: &PassEnd) -> Conclusion {
    let (target, fulfilled) = (target(), std::collections::BTreeSet::new());
    let input = StatusInput {
        old,
        generation: 2,
        desired: None,
        observed: None,
        observer: Some(ObserverInput { is_bound, target: Some(&target), seen }),
        token: None,
        blocker: None,
        heartbeat: None,
        woken: None,
        labelled: None,
        confirmed: None,
        fulfilled: &fulfilled,
        begins_reset: false,
        revocation: None,
        now: at(1000),
    };
    conclude(&input, end)
}

fn observed(old: &AgentStatus, seen: &SeenAgent) -> AgentStatus {
    concluded(old, false, Some(seen), &PassEnd::Observed).status
}

/// Status and reason of a condition.
fn condition(status: &AgentStatus, kind: ConditionType) -> (&str, &str) {
    find(&status.conditions, kind).map(|c| (c.status.as_str(), c.reason.as_str())).unwrap_or_default()
}

#[test]
fn the_roster_decides_whether_an_observed_agent_is_ready() {
    let absent = observed(&AgentStatus::default(), &SeenAgent::default());
    assert_eq!(condition(&absent, ConditionType::Ready), ("False", "AgentMissing"));
    assert_eq!((condition(&absent, ConditionType::Stalled).0, absent.phase), ("True", Some(Phase::Failed)));
    let entry = SeenAgent { is_configured: true, ..SeenAgent::default() };
    let entry = observed(&absent, &entry);
    assert_eq!(condition(&entry, ConditionType::Ready), ("False", "Progressing"));
    assert_eq!((condition(&entry, ConditionType::Reconciling).0, entry.phase), ("True", Some(Phase::Provisioning)));
    let ready = observed(&entry, &served());
    assert_eq!(condition(&ready, ConditionType::Ready), ("True", "Observed"));
    assert_eq!((ready.phase, ready.workspace_path.as_deref()), (Some(Phase::Idle), Some("/srv/nova")));
    for kind in [ConditionType::Stalled, ConditionType::Reconciling] {
        assert_eq!(condition(&ready, kind), ("", ""), "{kind}");
    }
    assert_eq!(observed(&ready, &served()), ready, "an unchanged agent causes no write");
}

#[test]
fn a_run_makes_an_observed_agent_active_until_it_counts_as_over() {
    let run =
        |started: i64| ObservedActivity { running: Some((at(started), at(started))), ..ObservedActivity::default() };
    let seen = SeenAgent { activity: run(900), ..served() };
    let conclusion = concluded(&AgentStatus::default(), false, Some(&seen), &PassEnd::Observed);
    assert_eq!(conclusion.status.phase, Some(Phase::Active));
    let over = SeenAgent { activity: run(900 - 6 * 3600), ..served() };
    assert_eq!(observed(&conclusion.status, &over).phase, Some(Phase::Idle));
    let soon = SeenAgent { activity: run(1000 - 6 * 3600 + 60), ..served() };
    let target = target();
    let input = ObserverInput { is_bound: false, target: Some(&target), seen: Some(&soon) };
    assert_eq!(input.look_after(at(1000)), Duration::from_mins(1));
}

#[test]
fn while_the_gateway_is_away_the_last_observation_stays() {
    let seen = SeenAgent {
        activity: ObservedActivity { running: Some((at(900), at(900))), ..ObservedActivity::default() },
        ..served()
    };
    let before = observed(&AgentStatus::default(), &seen);
    let away = PassEnd::Failed(ReconcileError::transient(Reason::GatewayNotReady, "away"));
    let after = concluded(&before, false, None, &away).status;
    assert_eq!(condition(&after, ConditionType::Ready), ("Unknown", "GatewayNotReady"));
    assert_eq!(condition(&after, ConditionType::Registered), ("True", "Observed"));
    assert_eq!((after.phase, after.workspace_path), (Some(Phase::Active), before.workspace_path));
}

#[test]
fn an_observer_without_a_binding_forgets_the_files_of_another_agent_and_a_bound_one_keeps_its_records() {
    let mut managed = applied().working().status;
    managed.binding = Some(binding("/w").to_status());
    let bound = concluded(&managed, true, Some(&served()), &PassEnd::Observed).status;
    assert_eq!((&bound.files, &bound.token, &bound.wake), (&managed.files, &managed.token, &managed.wake));
    assert_eq!(bound.binding.unwrap().deletion_policy, Some(DeletionPolicy::Orphan));
    let released = AgentStatus { binding: None, ..managed };
    let observed = observed(&released, &served());
    assert!(observed.files.is_empty() && observed.wake.is_none() && observed.session_label.is_none());
    assert_eq!(observed.heartbeat, None);
}

#[test]
fn what_the_gateway_shows_of_the_heartbeat_is_a_fact_and_no_advice() {
    let flaws = [
        HeartbeatFlaw::Unreadable("no".into()),
        HeartbeatFlaw::SchedulerOff { by_config: true },
        HeartbeatFlaw::NotScheduled,
        HeartbeatFlaw::JobDisabled,
        HeartbeatFlaw::EmptyHours,
        HeartbeatFlaw::FilesHidden,
        HeartbeatFlaw::EmptyFile,
        HeartbeatFlaw::Skipped(SkipReason::NoRoute),
        HeartbeatFlaw::Skipped(SkipReason::Other("busy".into())),
        HeartbeatFlaw::Failed("429".into()),
    ];
    for flaw in flaws {
        let heartbeat = ObservedHeartbeat { flaw: Some(flaw.clone()), ..ObservedHeartbeat::default() };
        let status = observed(&AgentStatus::default(), &SeenAgent { heartbeat, ..served() });
        assert_eq!(condition(&status, ConditionType::HeartbeatConfigured), ("Unknown", "NotManaged"));
        let message = &find(&status.conditions, ConditionType::HeartbeatConfigured).unwrap().message;
        assert!(message.starts_with(NOT_MANAGED) && !message.contains("spec.heartbeat"), "{message}");
        assert!(message.len() > NOT_MANAGED.len(), "{flaw:?}: {message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, "True");
    }
}

fn agent(namespace: &str, spec: serde_json::Value) -> Agent {
    let mut agent = Agent::new("one", serde_json::from_value(spec).unwrap());
    (agent.metadata.namespace, agent.metadata.uid) = (Some(namespace.into()), Some("u".into()));
    agent
}

fn gateway(url: &str) -> AgentGateway {
    let spec = json!({ "url": url, "auth": {}, "workspaceRoot": "~/w", "apiUrl": "http://muster" });
    let mut gateway = AgentGateway::new("gw", serde_json::from_value(spec).unwrap());
    gateway.metadata.namespace = Some("ns".into());
    gateway
}

fn names(agent: &Agent) -> Result<AgentIdentity, ReconcileError> {
    identity(&MemoryObjects::default(), agent, &gateway("ws://gw"))
}

#[test]
fn an_observer_needs_the_id_of_a_worker_unless_muster_managed_its_agent() {
    let nova = agent("ns", json!({ "agentId": "nova", "managementPolicy": "Observe" }));
    assert_eq!(names(&nova), Ok(target().identity));
    for spec in [json!({}), json!({ "agentId": "nova", "role": "Lead" })] {
        let error = names(&agent("ns", spec)).unwrap_err();
        assert_eq!((error.reason, error.transient), (Reason::InvalidSpec, false));
        assert!(error.message.contains("spec.agentId") && error.message.contains(keys::AGENT_ID), "{}", error.message);
    }
    let mut bound = agent("ns", json!({}));
    let binding = binding("/w");
    bound.status = Some(AgentStatus { binding: Some(binding.to_status()), ..AgentStatus::default() });
    assert_eq!(names(&bound), Ok(binding.identity));
}

#[test]
fn the_annotation_of_a_backup_names_the_agent_of_each_role() {
    let annotated = |spec: &serde_json::Value, id: &str| {
        let mut agent = agent("ns", spec.clone());
        agent.metadata.annotations = Some([(keys::AGENT_ID.to_owned(), id.to_owned())].into());
        names(&agent)
    };
    let lead = |id: Option<&str>| json!({ "role": "Lead", "agentId": id });
    for (spec, id) in [
        (json!({}), "mc-u0"),
        (lead(None), "lead-b0"),
        (json!({ "role": "Main" }), "mc-gateway-g0"),
        (lead(Some("nova")), "nova"),
    ] {
        let names = annotated(&spec, id).unwrap();
        assert_eq!((names.agent_id.as_str(), names.workspace.as_str()), (id, ""), "{spec}");
        assert_eq!(names.session_key, format!("agent:{id}:main"));
    }
    for (spec, id) in [(json!({}), "nova"), (lead(None), "mc-u0")] {
        assert_eq!(annotated(&spec, id).unwrap_err().reason, Reason::InvalidSpec, "{spec} claims no {id}");
    }
}

#[test]
fn a_binding_of_another_address_names_no_workspace_and_no_agent_of_another_namespace() {
    let mut guest = agent("team", json!({ "agentId": "nova", "managementPolicy": "Observe" }));
    let mut own = binding("/w");
    own.identity.agent_id = "nova".into();
    guest.status = Some(AgentStatus { binding: Some(own.to_status()), ..AgentStatus::default() });
    let mut objects = MemoryObjects { gateways: vec![gateway("ws://far").into()], ..MemoryObjects::default() };
    assert_eq!(identity(&objects, &guest, &gateway("ws://gw")), Ok(own.identity.clone()));
    let far = gateway("ws://far");
    assert_eq!(identity(&objects, &guest, &far), Ok(target().identity));

    // Another AgentGateway of that address has the agent.
    let mut keeper = agent("ns", json!({ "agentId": "nova" }));
    keeper.metadata.uid = Some("k".into());
    let gateway = ObjectKey::new("ns", "theirs");
    let binding = Binding { uid: "k".into(), gateway, address: address("ws://far"), ..own };
    keeper.status = Some(AgentStatus { binding: Some(binding.to_status()), ..AgentStatus::default() });
    objects.insert(keeper);
    let mut theirs = far.clone();
    theirs.metadata.name = Some("theirs".into());
    let authenticated = ConditionUpdate::new(ConditionType::Authenticated, true, Reason::Connected, "");
    set(&mut theirs.status.get_or_insert_default().conditions, &authenticated, 1, at(1));
    theirs.metadata.generation = Some(1);
    objects.gateways.push(theirs.into());
    assert_eq!(identity(&objects, &guest, &far).unwrap_err().reason, Reason::AgentIdTaken);
}

#[test]
fn a_binding_of_another_address_shows_nothing_of_the_agent_there() {
    let run = crate::core::agent::observed::ObservedRun { started: at(900), ended: Some(at(950)) };
    let seen = SeenAgent { activity: ObservedActivity { run: Some(run), ..ObservedActivity::default() }, ..served() };
    let mut before = observed(&AgentStatus::default(), &seen);
    before.binding = Some(binding("/w").to_status());
    let away = PassEnd::Failed(ReconcileError::transient(Reason::GatewayNotReady, "away"));
    let after = concluded(&before, true, None, &away).status;
    assert_eq!((after.last_run, after.workspace_path, after.active_hours), (None, None, None));
    assert!(before.last_run.is_some() && after.binding.is_some());
}
