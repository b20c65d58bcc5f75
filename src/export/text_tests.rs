use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(kind: ExportedKind, namespace: &str, name: &str) -> ExportedObject {
    let object = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": {} });
    ExportedObject { kind, object }
}

fn output(objects: &[ExportedObject], remarks: &Remarks<'_>) -> String {
    manifests(objects, remarks).unwrap()
}

const NONE: Remarks<'_> = Remarks { failures: &[], secrets: &[], secrets_file: None, secrets_read: &[] };

#[test]
fn gateways_come_first_then_boards_then_agents_each_by_namespace_and_name() {
    use ExportedKind::{Agent, AgentGateway, Board};
    let mut objects = vec![
        object(Agent, "b", "a"),
        object(Agent, "a", "z"),
        object(Board, "z", "a"),
        object(Agent, "a", "b"),
        object(AgentGateway, "z", "z"),
    ];
    sort(&mut objects);
    let labels: Vec<_> = objects.iter().map(ExportedObject::label).collect();
    assert_eq!(labels, ["AgentGateway z/z", "Board z/a", "Agent a/b", "Agent a/z", "Agent b/a"]);
}

#[test]
fn the_comments_name_what_the_other_cluster_needs_besides() {
    let mut objects = vec![object(ExportedKind::Agent, "fleet", "one")];
    objects[0].object["spec"] = json!({ "templates": { "configMapRef": { "name": "texts" } } });
    let secrets = needed_secrets(&objects);
    let text = output(&objects, &Remarks { secrets: &secrets, ..NONE });
    for line in [
        "# 0 AgentGateways, 0 Boards, 1 Agent, exported by muster",
        "# The namespaces, which have to exist first:\n#   fleet\n",
        "not in here (muster export --secrets FILE):\n#   fleet/one-token\n",
        "# The ConfigMaps, which are not in here:\n#   fleet/texts\n---\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let read = [json!({ "metadata": { "name": "one-token", "namespace": "fleet" } })];
    let with_file = Remarks { secrets: &secrets, secrets_file: Some("s.yaml"), secrets_read: &read, ..NONE };
    let with_file = output(&objects, &with_file);
    assert!(with_file.contains("# The Secrets, which have to exist first, are in s.yaml:\n#   fleet/one-token\n"));
}

#[test]
fn a_secret_that_was_not_read_is_not_said_to_be_in_the_file() {
    let mut gateway = object(ExportedKind::AgentGateway, "fleet", "gw");
    gateway.object["spec"] = json!({ "auth": { "tokenSecretRef": { "name": "gw" } } });
    let objects = [gateway, object(ExportedKind::Agent, "fleet", "one")];
    let secrets = needed_secrets(&objects);
    let text = output(&objects, &Remarks { secrets: &secrets, secrets_file: Some("s.yaml"), ..NONE });
    assert!(!text.contains("are in s.yaml"), "{text}");
    for lines in [
        "# The Secrets, which have to exist first and are not in s.yaml, because they were not read:\n#   fleet/gw\n",
        "# The Secrets that are not in s.yaml, and that Muster makes anew:\n#   fleet/gw-device\n#   fleet/one-token\n",
    ] {
        assert!(text.contains(lines), "{text}");
    }
}

#[test]
fn an_incomplete_output_says_so_and_a_line_break_ends_no_comment() {
    let failures = ["Boards of namespace a: forbidden\nkind: Secret\u{2028}x\r".to_owned()];
    let text = output(&[], &Remarks { failures: &failures, ..NONE });
    assert!(
        text.contains("# INCOMPLETE. These could not be read:\n#   Boards of namespace a: forbidden kind: Secret x \n")
    );
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
}

#[test]
fn a_secret_that_two_objects_need_is_needed_once() {
    let mut objects = vec![object(ExportedKind::AgentGateway, "a", "x"), object(ExportedKind::AgentGateway, "a", "y")];
    for one in &mut objects {
        one.object["spec"] =
            json!({ "auth": { "tokenSecretRef": { "name": "x-device" } }, "device": { "secretName": "d" } });
    }
    let needed: Vec<_> = needed_secrets(&objects).into_iter().map(|secret| (secret.name, secret.is_made)).collect();
    assert_eq!(needed, [("d".to_owned(), true), ("x-device".to_owned(), false)]);
}

fn read_back(object: &Value) -> Value {
    let text = output(&[ExportedObject { kind: ExportedKind::Board, object: object.clone() }], &NONE);
    serde_saphyr::from_str(text.split_once("---\n").unwrap().1).unwrap()
}

proptest! {
    #[test]
    fn every_text_is_read_back_as_it_was(key in "\\PC{1,12}", text in "(?s).{0,40}", number in any::<i64>()) {
        let object = json!({ "metadata": { "name": "x" }, "spec": { (key): text, "number": number, "list": [text] } });
        prop_assert_eq!(&read_back(&object)["spec"], &object["spec"]);
    }
}

/// The YAML library of Kubernetes reads these words as YAML 1.1 does, when they stand without quotes.
#[test]
fn words_that_yaml_1_1_reads_as_another_value_are_quoted() {
    for word in [
        "y",
        "N",
        "yes",
        "No",
        "on",
        "OFF",
        "null",
        "~",
        "1_000",
        "0x1F",
        "017",
        "1e3",
        ".inf",
        "<<",
        "=",
        "2026-01-02",
        "12:30:00",
    ] {
        let object = json!({ "metadata": { "name": "x" }, "spec": { (word): word } });
        let text = output(&[ExportedObject { kind: ExportedKind::Board, object: object.clone() }], &NONE);
        let line = text.lines().last().unwrap().trim();
        let quoted = [
            format!("\"{word}\": \"{word}\""),
            format!("'{word}': '{word}'"),
            format!("\"{word}\": '{word}'"),
            format!("'{word}': \"{word}\""),
        ];
        assert!(quoted.iter().any(|quoted| quoted == line), "{line}");
        assert_eq!(read_back(&object)["spec"], object["spec"]);
    }
}
