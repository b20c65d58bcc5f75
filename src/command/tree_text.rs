//! The rows of `muster tree`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::object::{name, namespace};
use super::observed::condition;

/// The namespace and the name of an object.
type Key = (String, String);

/// The objects of a tree.
#[derive(Debug, Default)]
pub(super) struct FleetObjects {
    pub(super) gateways: Vec<Value>,
    pub(super) boards: Vec<Value>,
    pub(super) agents: Vec<Value>,
    /// AgentGateways that boards or agents refer to, and why they are not among the gateways.
    pub(super) absent: BTreeMap<Key, String>,
}

/// A line of a tree, and the lines below it.
struct TreeNode {
    kind: &'static str,
    key: Key,
    /// What is special about the object, such as `suspended`.
    remarks: Vec<String>,
    /// The condition Ready.
    ready: Option<Value>,
    /// The time of the creation.
    created: Option<String>,
    below: Vec<TreeNode>,
}

impl TreeNode {
    fn label(&self) -> String {
        let remarks = if self.remarks.is_empty() { String::new() } else { format!(" ({})", self.remarks.join(", ")) };
        format!("{}/{}{remarks}", self.kind, self.key.1)
    }

    fn ready(&self, field: &str) -> String {
        self.ready.as_ref().and_then(|ready| ready[field].as_str()).unwrap_or_default().to_owned()
    }

    fn data(&self) -> Value {
        json!({
            "kind": self.kind, "namespace": self.key.0, "name": self.key.1, "remarks": self.remarks,
            "ready": self.ready("status"), "reason": self.ready("reason"), "message": self.ready("message"),
            "created": self.created, "below": self.below.iter().map(Self::data).collect::<Vec<_>>(),
        })
    }
}

fn key(object: &Value) -> Key {
    (namespace(object).to_owned(), name(object).to_owned())
}

/// The AgentGateway that an object names.
pub(super) fn gateway_of(object: &Value) -> Option<Key> {
    let reference = &object["spec"]["gatewayRef"];
    let place = reference["namespace"].as_str().unwrap_or(namespace(object));
    Some((place.to_owned(), reference["name"].as_str()?.to_owned()))
}

/// The Board that an Agent names.
pub(super) fn board_of(agent: &Value) -> Option<Key> {
    Some((namespace(agent).to_owned(), agent["spec"]["boardRef"]["name"].as_str()?.to_owned()))
}

/// The heads of the columns. The last one is for wide tables.
pub(super) const COLUMNS: [&str; 6] = ["NAMESPACE", "NAME", "READY", "REASON", "AGE", "MESSAGE"];

/// The rows of the tree, or of the part below the gateways of a name.
pub(super) fn rows(fleet: &FleetObjects, only: Option<&str>, now: Timestamp) -> Vec<[String; COLUMNS.len()]> {
    let mut rows = Vec::new();
    for node in roots(fleet, only) {
        push(node, ["", ""], now, &mut rows);
    }
    rows
}

/// The tree, or the part below the gateways of a name, for programs.
pub(super) fn data(fleet: &FleetObjects, only: Option<&str>) -> Vec<Value> {
    roots(fleet, only).iter().map(TreeNode::data).collect()
}

/// Adds a line and the lines below it. `start` stands before the label, `indent` before those below.
fn push(node: TreeNode, [start, indent]: [&str; 2], now: Timestamp, rows: &mut Vec<[String; COLUMNS.len()]>) {
    let age = node.created.as_deref().map(|moment| age::of(moment, now)).unwrap_or_default();
    let label = format!("{start}{}", node.label());
    let [status, reason, message] = ["status", "reason", "message"].map(|field| node.ready(field));
    rows.push([node.key.0, label, status, reason, age, message]);
    let count = node.below.len();
    for (index, below) in node.below.into_iter().enumerate() {
        let (corner, line) = if index + 1 == count { ("└─", "  ") } else { ("├─", "│ ") };
        push(below, [&format!("{indent}{corner}"), &format!("{indent}{line}")], now, rows);
    }
}

/// The objects by what they refer to, in the order of their keys.
#[derive(Default)]
struct Placement<'a> {
    boards: BTreeMap<Key, BTreeMap<Key, &'a Value>>,
    on_boards: BTreeMap<Key, BTreeMap<Key, &'a Value>>,
    on_gateways: BTreeMap<Key, BTreeMap<Key, &'a Value>>,
    /// The Agents that refer to nothing.
    loose: BTreeMap<Key, &'a Value>,
}

impl<'a> Placement<'a> {
    fn of(fleet: &'a FleetObjects) -> Self {
        let mut placement = Self::default();
        for board in &fleet.boards {
            if let Some(gateway) = gateway_of(board) {
                placement.boards.entry(gateway).or_default().insert(key(board), board);
            }
        }
        for agent in &fleet.agents {
            let place = if let Some(board) = board_of(agent) {
                placement.on_boards.entry(board).or_default()
            } else if let Some(gateway) = gateway_of(agent) {
                placement.on_gateways.entry(gateway).or_default()
            } else {
                &mut placement.loose
            };
            place.insert(key(agent), agent);
        }
        placement
    }

    fn below_gateway(&self, gateway: &Key) -> Vec<TreeNode> {
        let boards = self.boards.get(gateway).into_iter().flatten();
        let boards = boards.map(|(key, board)| TreeNode { below: self.agents_of(key), ..node(board, "Board") });
        let agents = self.on_gateways.get(gateway).into_iter().flatten();
        boards.chain(agents.map(|(_, agent)| node(agent, "Agent"))).collect()
    }

    fn agents_of(&self, board: &Key) -> Vec<TreeNode> {
        let agents = self.on_boards.get(board).into_iter().flatten();
        agents.map(|(_, agent)| node(agent, "Agent")).collect()
    }
}

fn roots(fleet: &FleetObjects, only: Option<&str>) -> Vec<TreeNode> {
    let placement = Placement::of(fleet);
    let is_wanted = |key: &Key| only.is_none_or(|name| name == key.1);
    let known: BTreeMap<_, _> = fleet.gateways.iter().map(|gateway| (key(gateway), gateway)).collect();
    let absent = fleet.absent.iter().filter(|(key, _)| !known.contains_key(*key));
    let mut roots = Vec::new();
    for (key, gateway) in known.iter().filter(|(key, _)| is_wanted(key)) {
        roots.push(TreeNode { below: placement.below_gateway(key), ..node(gateway, "AgentGateway") });
    }
    for (key, cause) in absent.filter(|(key, _)| is_wanted(key)) {
        roots.push(missing("AgentGateway", key, cause, placement.below_gateway(key)));
    }
    if only.is_some() {
        return roots;
    }
    let boards: BTreeSet<_> = fleet.boards.iter().map(key).collect();
    for board in placement.on_boards.keys().filter(|board| !boards.contains(*board)) {
        roots.push(missing("Board", board, "does not exist", placement.agents_of(board)));
    }
    roots.extend(placement.loose.values().map(|agent| {
        let node = node(agent, "Agent");
        let remark = "names neither a board nor a gateway".to_owned();
        TreeNode { remarks: node.remarks.iter().cloned().chain([remark]).collect(), ..node }
    }));
    roots
}

fn node(object: &Value, kind: &'static str) -> TreeNode {
    let deleted = (!object["metadata"]["deletionTimestamp"].is_null()).then_some("is being deleted");
    let suspended = (object["spec"]["suspend"] == true).then_some("suspended");
    TreeNode {
        kind,
        key: key(object),
        remarks: deleted.into_iter().chain(suspended).map(str::to_owned).collect(),
        ready: condition(object, "Ready").cloned(),
        created: object["metadata"]["creationTimestamp"].as_str().map(str::to_owned),
        below: Vec::new(),
    }
}

fn missing(kind: &'static str, key: &Key, cause: &str, below: Vec<TreeNode>) -> TreeNode {
    TreeNode { kind, key: key.clone(), remarks: vec![cause.to_owned()], ready: None, created: None, below }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(place: &str, name: &str, spec: &Value) -> Value {
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "Reconciled" }]);
        let metadata = json!({ "namespace": place, "name": name, "creationTimestamp": "2026-03-01T09:00:00Z" });
        json!({ "metadata": metadata, "spec": spec, "status": { "conditions": ready } })
    }

    fn labels(fleet: &FleetObjects, only: Option<&str>) -> Vec<String> {
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        rows(fleet, only, now).into_iter().map(|row| row[..5].join("|")).collect()
    }

    #[test]
    fn agents_are_below_their_board_and_boards_below_their_gateway() {
        let fleet = FleetObjects {
            gateways: vec![object("fleet", "gw", &json!({ "suspend": true })), object("fleet", "idle", &json!({}))],
            boards: vec![
                object("team", "b", &json!({ "gatewayRef": { "name": "gw", "namespace": "fleet" } })),
                object("fleet", "a", &json!({ "gatewayRef": { "name": "gw" } })),
            ],
            agents: vec![
                object("fleet", "main", &json!({ "gatewayRef": { "name": "gw" } })),
                object("fleet", "two", &json!({ "boardRef": { "name": "a" } })),
                object("fleet", "one", &json!({ "boardRef": { "name": "a" } })),
                object("team", "three", &json!({ "boardRef": { "name": "b" } })),
            ],
            absent: BTreeMap::new(),
        };
        let expected = [
            "fleet|AgentGateway/gw (suspended)|True|Reconciled|60m",
            "fleet|├─Board/a|True|Reconciled|60m",
            "fleet|│ ├─Agent/one|True|Reconciled|60m",
            "fleet|│ └─Agent/two|True|Reconciled|60m",
            "team|├─Board/b|True|Reconciled|60m",
            "team|│ └─Agent/three|True|Reconciled|60m",
            "fleet|└─Agent/main|True|Reconciled|60m",
            "fleet|AgentGateway/idle|True|Reconciled|60m",
        ];
        assert_eq!(labels(&fleet, None), expected);
        assert_eq!(labels(&fleet, Some("idle")), expected[7..]);
    }

    #[test]
    fn objects_that_refer_to_something_missing_are_below_a_line_that_says_so() {
        let cause = "does not exist".to_owned();
        let fleet = FleetObjects {
            boards: vec![object("fleet", "a", &json!({ "gatewayRef": { "name": "gone" } }))],
            agents: vec![
                object("fleet", "one", &json!({ "boardRef": { "name": "a" } })),
                object("fleet", "two", &json!({ "boardRef": { "name": "nowhere" } })),
                object("fleet", "three", &json!({})),
            ],
            absent: [(("fleet".to_owned(), "gone".to_owned()), cause)].into(),
            ..FleetObjects::default()
        };
        let expected = [
            "fleet|AgentGateway/gone (does not exist)|||",
            "fleet|└─Board/a|True|Reconciled|60m",
            "fleet|  └─Agent/one|True|Reconciled|60m",
            "fleet|Board/nowhere (does not exist)|||",
            "fleet|└─Agent/two|True|Reconciled|60m",
            "fleet|Agent/three (names neither a board nor a gateway)|True|Reconciled|60m",
        ];
        assert_eq!(labels(&fleet, None), expected);
    }
}
