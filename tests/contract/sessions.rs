//! The list of sessions.

use muster_harness::Failure;
use serde_json::{Value, json};

use crate::subject::Subject;

/// More sessions than one list of the client has.
const NEWER_SESSIONS: usize = 101;

fn keys(list: &Value) -> Vec<&str> {
    list["sessions"].as_array().into_iter().flatten().filter_map(|row| row["key"].as_str()).collect()
}

pub(crate) async fn a_session_is_found_by_its_key_among_many_newer_sessions(gateway: &Subject) -> Result<(), Failure> {
    let id = gateway.agent().await?.id;
    let main = format!("agent:{id}:main");
    gateway.client.session_label(&main, "Main").await?;
    for number in 0..NEWER_SESSIONS {
        gateway.client.session_label(&format!("agent:{id}:other-{number}"), &format!("Other {number}")).await?;
    }
    let list = async |search: &str, limit: usize| {
        gateway.request("sessions.list", &json!({ "agentId": id, "search": search, "limit": limit })).await
    };
    let newest = list("", 100).await?;
    assert_eq!(keys(&newest).len(), 100);
    assert!(!keys(&newest).contains(&main.as_str()), "the newest sessions are listed");
    assert_eq!(keys(&list(&main.to_uppercase(), 100).await?), [main.as_str()], "the search finds the key");
    let seen = gateway.client.session(&main).await?.ok_or("no session")?;
    assert_eq!(seen.label.as_deref(), Some("Main"));
    // The search also finds longer keys.
    let longer = format!("{main}:thread:1");
    gateway.client.session_label(&longer, "Thread").await?;
    assert_eq!(keys(&list(&main, 1).await?), [longer.as_str()], "the newest session comes first");
    assert_eq!(gateway.client.session(&main).await?.ok_or("no session")?.id, seen.id);
    Ok(())
}
