//! `muster doctor`.

use serde_json::{Value, json};

use crate::rig::{AGENTS, BOARDS, GATEWAYS, Rig, SECRETS, board, gateway};

async fn set(rig: &Rig, path: &str, conditions: &[(&str, &str, &str)]) {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(name, status, reason)| {
            json!({ "type": name, "status": status, "reason": reason, "message": "The cause.",
                "lastTransitionTime": "2026-03-01T09:30:00Z", "observedGeneration": 1 })
        })
        .collect();
    let status = json!({ "status": { "observedGeneration": 1, "conditions": conditions } });
    rig.send("PATCH", &format!("{path}/status"), status).await;
}

async fn fleet() -> Rig {
    let rig = Rig::new().await;
    rig.send("POST", SECRETS, json!({ "metadata": { "name": "gateway" }, "data": { "token": "aHVzaA==" } })).await;
    rig.send("POST", GATEWAYS, gateway("gw")).await;
    rig.send("POST", BOARDS, board("ops")).await;
    rig.agents(&["one"]).await;
    for path in [format!("{GATEWAYS}/gw"), format!("{BOARDS}/ops"), format!("{AGENTS}/one")] {
        set(&rig, &path, &[("Ready", "True", "Reconciled")]).await;
    }
    rig
}

#[tokio::test(start_paused = true)]
async fn a_healthy_agent_is_examined_with_its_gateway_and_its_board() {
    let rig = fleet().await;
    let expected = "\
AgentGateway fleet/gw
  ok     Ready           True (Reconciled)
  ok     Secret gateway  exists

Board fleet/ops
  ok     Ready  True (Reconciled)

Agent fleet/one
  ok     Ready  True (Reconciled)

Nothing is wrong.
";
    assert_eq!(rig.ok("doctor agent one").await, expected);
    assert!(!rig.ok("doctor gateway gw").await.contains("Board"));
}

#[tokio::test(start_paused = true)]
async fn a_fault_has_its_meaning_and_the_next_step_and_the_exit_status_one() {
    let rig = fleet().await;
    set(
        &rig,
        &format!("{GATEWAYS}/gw"),
        &[("Ready", "False", "BadCredentials"), ("Authenticated", "False", "BadCredentials")],
    )
    .await;
    rig.send("PATCH", &format!("{SECRETS}/gateway"), json!({ "data": { "token": null, "other": "aHVzaA==" } })).await;
    let ran = rig.run("doctor agent/one").await;
    assert_eq!((ran.status, ran.err.as_str()), (1, "muster: 3 checks failed\n"));
    let expected = "\
  WRONG  Ready           False (BadCredentials): The cause.
                         means: The gateway refuses the token or the password.
                         to do: Correct the Secret that `spec.auth` names.
  WRONG  Authenticated   False (BadCredentials): The cause.
  WRONG  Secret gateway  it has no key token, which spec.auth.tokenSecretRef names
                         to do: Create the Secret or the key, or correct spec.auth.tokenSecretRef.
";
    assert!(ran.out.contains(expected) && !ran.out.contains("aHVzaA"), "{}", ran.out);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_named() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    let ran = rig.run("doctor agent one").await;
    assert_eq!(ran.status, 1);
    assert!(ran.out.starts_with("Board fleet/ops\n  WRONG  exists  the object does not exist\n"), "{}", ran.out);
    assert!(ran.out.contains("to do: Create the Board, or correct `spec.boardRef`."), "{}", ran.out);
    assert!(ran.out.contains("  WRONG  Ready  Muster has not reconciled the object\n"), "{}", ran.out);
    rig.send("POST", BOARDS, board("ops")).await;
    let ran = rig.run("doctor agent one").await;
    assert!(ran.out.starts_with("AgentGateway fleet/gw\n  WRONG  exists"), "{}", ran.out);
    let ran = rig.run("doctor agent nobody").await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.starts_with("agents.muster.dev \"nobody\" not found\n"), "{ran:?}");
    for line in ["doctor", "doctor agent", "doctor secret gw", "doctor agents"] {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
}
