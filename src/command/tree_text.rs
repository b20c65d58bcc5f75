//! The rows of `muster tree`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

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
    namespace: String,
    label: String,
    /// The status and the reason of Ready, and the age.
    cells: [String; 3],
    below: Vec<TreeNode>,
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

/// The rows of the tree, or of the part below the gateways of a name.
pub(super) fn rows(fleet: &FleetObjects, only: Option<&str>, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for node in roots(fleet, only, now) {
        push(node, "", "", &mut rows);
    }
    rows
}

/// Adds a line and the lines below it. `start` stands before the label, `indent` before those below.
fn push(node: TreeNode, start: &str, indent: &str, rows: &mut Vec<Vec<String>>) {
    let [ready, reason, age] = node.cells;
    rows.push(vec![node.namespace, format!("{start}{}", node.label), ready, reason, age]);
    let count = node.below.len();
    for (index, below) in node.below.into_iter().enumerate() {
        let (corner, line) = if index + 1 == count { ("└─", "  ") } else { ("├─", "│ ") };
        push(below, &format!("{indent}{corner}"), &format!("{indent}{line}"), rows);
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

    fn below_gateway(&self, gateway: &Key, now: Timestamp) -> Vec<TreeNode> {
        let boards = self.boards.get(gateway).into_iter().flatten();
        let boards =
            boards.map(|(key, board)| TreeNode { below: self.agents_of(key, now), ..node(board, "Board", now) });
        let agents = self.on_gateways.get(gateway).into_iter().flatten();
        boards.chain(agents.map(|(_, agent)| node(agent, "Agent", now))).collect()
    }

    fn agents_of(&self, board: &Key, now: Timestamp) -> Vec<TreeNode> {
        let agents = self.on_boards.get(board).into_iter().flatten();
        agents.map(|(_, agent)| node(agent, "Agent", now)).collect()
    }
}

fn roots(fleet: &FleetObjects, only: Option<&str>, now: Timestamp) -> Vec<TreeNode> {
    let placement = Placement::of(fleet);
    let is_wanted = |key: &Key| only.is_none_or(|name| name == key.1);
    let known: BTreeMap<_, _> = fleet.gateways.iter().map(|gateway| (key(gateway), gateway)).collect();
    let absent = fleet.absent.iter().filter(|(key, _)| !known.contains_key(*key));
    let mut roots = Vec::new();
    for (key, gateway) in known.iter().filter(|(key, _)| is_wanted(key)) {
        roots.push(TreeNode { below: placement.below_gateway(key, now), ..node(gateway, "AgentGateway", now) });
    }
    for (key, cause) in absent.filter(|(key, _)| is_wanted(key)) {
        roots.push(missing("AgentGateway", key, cause, placement.below_gateway(key, now)));
    }
    if only.is_some() {
        return roots;
    }
    let boards: BTreeSet<_> = fleet.boards.iter().map(key).collect();
    for board in placement.on_boards.keys().filter(|board| !boards.contains(*board)) {
        roots.push(missing("Board", board, "does not exist", placement.agents_of(board, now)));
    }
    roots.extend(placement.loose.values().map(|agent| {
        let node = node(agent, "Agent", now);
        TreeNode { label: format!("{} (names neither a board nor a gateway)", node.label), ..node }
    }));
    roots
}

fn node(object: &Value, kind: &str, now: Timestamp) -> TreeNode {
    let deleted = (!object["metadata"]["deletionTimestamp"].is_null()).then_some("is being deleted");
    let suspended = (object["spec"]["suspend"] == true).then_some("suspended");
    let remarks: Vec<_> = deleted.into_iter().chain(suspended).collect();
    let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
    let ready = condition(object, "Ready");
    let word = |field: &str| ready.and_then(|one| one[field].as_str()).unwrap_or_default().to_owned();
    let made = object["metadata"]["creationTimestamp"].as_str();
    TreeNode {
        namespace: namespace(object).to_owned(),
        label: format!("{kind}/{}{remarks}", name(object)),
        cells: [word("status"), word("reason"), made.map(|moment| age::of(moment, now)).unwrap_or_default()],
        below: Vec::new(),
    }
}

fn missing(kind: &str, (namespace, name): &Key, cause: &str, below: Vec<TreeNode>) -> TreeNode {
    let label = format!("{kind}/{name} ({cause})");
    TreeNode { namespace: namespace.clone(), label, cells: Default::default(), below }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(place: &str, name: &str, spec: &Value) -> Value {
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "Reconciled" }]);
        let metadata = json!({ "namespace": place, "name": name, "creationTimestamp": "2026-03-01T09:00:00Z" });
        json!({ "metadata": metadata, "spec": spec, "status": { "conditions": ready } })
    }

    fn labels(fleet: &FleetObjects, only: Option<&str>) -> Vec<String> {
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        rows(fleet, only, now).into_iter().map(|row| row.join("|")).collect()
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
