//! The demo without a cluster: `muster run --embedded`, with the commands of `muster`.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use muster_harness::{Binaries, Failure, KubeCommand, OpenClaw, Operator, ScriptedModel};
use serde_json::Value;
use tempfile::TempDir;

use crate::examples::{self, NAMESPACE, TIMEOUT};
use crate::progress::Progress;

/// Time between two looks at the objects. Each is a process of its own, and the gateway needs the processors.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that the demo starts. The fields drop in this order.
pub(crate) struct EmbeddedDemo {
    _operator: Operator,
    _gateway: OpenClaw,
    _model: ScriptedModel,
    _manifests: TempDir,
}

/// Starts everything, and waits until the examples are Ready and one agent has checked in.
pub(crate) async fn bring_up(progress: &Progress, binary: &Path) -> Result<EmbeddedDemo, Failure> {
    tokio::task::spawn_blocking(Binaries::openclaw).await??;
    progress.step("starting the operator and a real OpenClaw gateway side by side");
    let model = ScriptedModel::start().await?;
    let gateway = async {
        let gateway = OpenClaw::start_with(model.url(), examples::TOKEN).await?;
        progress.step("the gateway answers");
        Ok::<_, Failure>(gateway)
    };
    let operator = async {
        let operator = Operator::start_embedded(binary).await?;
        progress.step("the operator is ready: muster run --embedded");
        Ok::<_, Failure>(operator)
    };
    let both = Box::pin(async { futures::try_join!(operator, gateway) });
    let (operator, gateway) = progress.during(|| "the gateway starts".to_owned(), both).await?;
    let muster = operator.muster();
    let manifests = tempfile::Builder::new().prefix("muster-demo-").tempdir()?;
    examples::write(manifests.path(), &gateway.url(), &operator.api_url())?;
    println!("\n(The manifests of deploy/examples, with the addresses of this demo.)");
    show(&muster, &["apply", "-f", &manifests.path().display().to_string()]).await?;
    let agent = set_up(progress, &muster).await.map_err(|e| {
        let (operator, gateway) = (examples::log_tail(&operator.log()), gateway.tail());
        let requests = examples::last_model_requests(&model);
        format!("{e}\nthe last requests to the model: {requests:#?}\nthe end of the gateway's log:\n{gateway}\nthe end of the operator's log:\n{operator}")
    })?;
    progress.step(&format!("agent {agent} was woken, read its files and checked in by itself"));
    print_result(&muster, &gateway, &agent).await?;
    print_hints(&muster, binary, &gateway, &operator, &agent);
    Ok(EmbeddedDemo { _operator: operator, _gateway: gateway, _model: model, _manifests: manifests })
}

/// Prints a command and its output.
async fn show(muster: &KubeCommand, args: &[&str]) -> Result<(), Failure> {
    println!("\n$ muster {}", args.join(" "));
    println!("{}", muster.run(args).await?);
    Ok(())
}

/// Waits until all objects are Ready and an agent has checked in. Returns the name of the agent.
async fn set_up(progress: &Progress, muster: &KubeCommand) -> Result<String, Failure> {
    let state = RefCell::new(SetUp::default());
    let complete = async {
        loop {
            let now = SetUp::read(muster).await?;
            for step in now.steps_since(&state.borrow()) {
                progress.step(&step);
            }
            if let Some(agent) = now.checked_in.clone().filter(|_| now.is_ready()) {
                return Ok(agent);
            }
            state.replace(now);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let limited = tokio::time::timeout(TIMEOUT, progress.during(|| state.borrow().to_string(), complete)).await;
    limited.unwrap_or_else(|_| Err(format!("not within {} s: {}", TIMEOUT.as_secs(), state.borrow()).into()))
}

/// How far the examples are.
#[derive(Debug, Default, PartialEq, Eq)]
struct SetUp {
    /// How many objects of each kind are Ready, and how many there are: gateways, boards, agents.
    kinds: [(usize, usize); 3],
    /// The first agent that has checked in.
    checked_in: Option<String>,
}

const KINDS: [&str; 3] = ["AgentGateway", "Board", "Agent"];

impl SetUp {
    async fn read(muster: &KubeCommand) -> Result<Self, Failure> {
        Ok(Self::of(&serde_json::from_str(&muster.run(&["get", "muster", "-n", NAMESPACE, "-o", "json"]).await?)?))
    }

    fn of(list: &Value) -> Self {
        let objects = || list["items"].as_array().into_iter().flatten();
        let kinds = KINDS.map(|kind| {
            let of_kind = || objects().filter(move |object| object["kind"] == kind);
            (of_kind().filter(|object| is_true(object, "Ready")).count(), of_kind().count())
        });
        let checked_in = objects().find(|object| is_true(object, "CheckedIn"));
        let checked_in = checked_in.and_then(|object| object["metadata"]["name"].as_str()).map(str::to_owned);
        Self { kinds, checked_in }
    }

    fn is_ready(&self) -> bool {
        self.kinds.iter().all(|(ready, all)| *all > 0 && ready == all)
    }

    /// A line for each kind of which more or fewer objects are Ready than before.
    fn steps_since(&self, before: &Self) -> Vec<String> {
        let kinds = self.kinds.iter().zip(&before.kinds).zip(KINDS);
        let changed = kinds.filter(|(((ready, _), (before, _)), _)| ready != before);
        changed.map(|(((ready, all), _), kind)| format!("{kind}s: {ready} of {all} Ready")).collect()
    }
}

impl std::fmt::Display for SetUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.kinds.iter().zip(KINDS).find(|((ready, all), _)| *all == 0 || ready < all);
        match waiting {
            Some(((ready, all), kind)) => write!(f, "{kind}s: {ready} of {all} Ready"),
            None => f.write_str("the gateway runs an agent, which checks in"),
        }
    }
}

fn is_true(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Prints a part of one workspace file of the agent, the end of its description, and the tables.
async fn print_result(muster: &KubeCommand, gateway: &OpenClaw, agent: &str) -> Result<(), Failure> {
    let object = muster.run(&["get", "agent", agent, "-n", NAMESPACE, "-o", "json"]).await?;
    let object: Value = serde_json::from_str(&object)?;
    let workspace = object["status"]["workspacePath"].as_str().ok_or("the agent has no workspace")?;
    println!("\nThe agent did what its AGENTS.md on the gateway says (its token is hidden here):\n");
    examples::print_agents_file(workspace, gateway.home(), |text| {
        section(text, "### Check in", Some("\nThe body says"))
    })?;
    let describe = ["describe", "agent", agent, "-n", NAMESPACE];
    println!("$ muster {}    (the end of it)", describe.join(" "));
    print!("{}", section(&muster.run(&describe).await?, "Conditions:", None));
    show(muster, &["get", "agentgateways,boards,agents", "-n", NAMESPACE]).await
}

/// The part of a text from the line `from` on, up to `to`. The whole text if it has no such line.
fn section<'a>(text: &'a str, from: &str, to: Option<&str>) -> &'a str {
    let part = text.find(&format!("\n{from}\n")).map_or(text, |at| &text[at + 1..]);
    to.and_then(|to| part.find(to)).map_or(part, |end| &part[..end])
}

fn print_hints(muster: &KubeCommand, binary: &Path, gateway: &OpenClaw, operator: &Operator, agent: &str) {
    let folder = binary.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_default();
    let directory = muster.kubeconfig().parent().unwrap_or(Path::new(""));
    println!("To look further, while this runs:");
    println!("  export PATH={}:$PATH KUBECONFIG={}", folder.display(), muster.kubeconfig().display());
    println!("  muster get agents -n {NAMESPACE} -o wide");
    println!("  muster describe agent {agent} -n {NAMESPACE}");
    println!("  muster rotate agent {agent} -n {NAMESPACE} --wait");
    println!("  ls {}/workspaces", gateway.home().display());
    println!("  the fleet in a browser: {}, with the token in {}/token\n", operator.api_url(), directory.display());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, conditions: &[&str]) -> Value {
        let conditions: Vec<_> = conditions.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect();
        json!({ "kind": kind, "metadata": { "name": name }, "status": { "conditions": conditions } })
    }

    #[test]
    fn the_examples_are_set_up_when_every_object_is_ready() {
        let ready = [object("AgentGateway", "gw", &["Ready"]), object("Board", "ops", &["Ready"])];
        let list = |agents: &[Value]| json!({ "items": ([&ready[..], agents].concat()) });
        let half = SetUp::of(&list(&[object("Agent", "one", &["Ready", "CheckedIn"]), object("Agent", "two", &[])]));
        assert_eq!((half.is_ready(), half.to_string().as_str()), (false, "Agents: 1 of 2 Ready"));
        let whole = SetUp::of(&list(&[object("Agent", "one", &["Ready"]), object("Agent", "two", &["Ready"])]));
        assert_eq!((whole.is_ready(), &whole.checked_in), (true, &None));
        assert_eq!(whole.steps_since(&half), ["Agents: 2 of 2 Ready"]);
        assert!(!SetUp::of(&json!({ "items": [] })).is_ready(), "nothing is applied yet");
    }

    #[test]
    fn a_section_begins_with_its_line() {
        let text = "Name:  one\nConditions:\n  Ready\nEvents:\n";
        assert_eq!(section(text, "Conditions:", None), "Conditions:\n  Ready\nEvents:\n");
        assert_eq!(section(text, "Conditions:", Some("\nEvents")), "Conditions:\n  Ready");
        assert_eq!(section(text, "Status:", None), text);
    }
}
