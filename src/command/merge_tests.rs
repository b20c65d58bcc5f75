use super::*;

/// The patch from an object, which was applied with a last manifest, to a new manifest; without the annotation.
fn patch(last: &Value, current: &Value, new: &Value) -> Value {
    let mut current = current.clone();
    current["metadata"]["annotations"] = annotated(last, false)["metadata"]["annotations"].clone();
    let mut patch = three_way(&annotated(new, false), &current);
    if let Some(fields) = patch.as_object_mut() {
        fields.remove("metadata");
    }
    patch
}

#[test]
fn the_same_manifest_gives_an_empty_patch() {
    let manifest = json!({ "kind": "Agent", "metadata": { "name": "one" }, "spec": { "role": "Lead", "files": [1] } });
    let mut current = annotated(&manifest, false);
    current["spec"]["wake"] = json!({ "enabled": true });
    current["status"] = json!({ "phase": "Active" });
    current["metadata"]["uid"] = json!("u");
    assert_eq!(three_way(&annotated(&manifest, false), &current), json!({}));
}

#[test]
fn changed_and_new_fields_are_set_and_removed_fields_are_null() {
    let last = json!({ "spec": { "a": 1, "b": { "c": 1, "d": 2 }, "e": [1, 2], "gone": 1 } });
    let current = json!({ "spec": { "a": 1, "b": { "c": 1, "d": 2 }, "e": [1, 2] } });
    let new = json!({ "spec": { "a": 2, "b": { "c": 1 }, "e": [1], "f": { "g": 1 } } });
    assert_eq!(
        patch(&last, &current, &new),
        json!({ "spec": { "a": 2, "b": { "d": null }, "e": [1], "f": { "g": 1 } } })
    );
}

#[test]
fn fields_of_others_stay_and_are_taken_over_when_a_manifest_has_them() {
    let last = json!({ "spec": { "a": 1 } });
    let current = json!({ "spec": { "a": 1, "others": { "x": 1, "y": 2 } } });
    assert_eq!(patch(&last, &current, &json!({ "spec": { "a": 1 } })), json!({}));
    let new = json!({ "spec": { "a": 1, "others": { "x": 3 } } });
    assert_eq!(patch(&last, &current, &new), json!({ "spec": { "others": { "x": 3 } } }));
}

#[test]
fn a_null_of_a_manifest_removes_a_field() {
    let empty = json!({});
    let null = json!({ "spec": { "a": null } });
    assert_eq!(patch(&empty, &json!({ "spec": { "a": 1 } }), &null), null);
    assert_eq!(patch(&empty, &json!({ "spec": { "b": 1 } }), &null), json!({}));
}

#[test]
fn an_object_replaces_a_value_and_a_value_an_object() {
    let (value, object) = (json!({ "spec": { "a": 1 } }), json!({ "spec": { "a": { "b": 1 } } }));
    assert_eq!(patch(&value, &value, &object), object);
    assert_eq!(patch(&object, &object, &value), value);
}

#[test]
fn an_object_that_was_never_applied_loses_nothing() {
    for annotation in [None, Some("{"), Some("[]")] {
        let mut current = json!({ "metadata": { "name": "one", "labels": { "x": "y" } }, "spec": { "a": 1 } });
        if let Some(text) = annotation {
            current["metadata"]["annotations"][keys::LAST_APPLIED] = json!(text);
        }
        let patch = three_way(&annotated(&json!({ "metadata": {}, "spec": {} }), false), &current);
        assert!(patch.get("spec").is_none() && patch["metadata"].get("labels").is_none(), "{patch}");
    }
}

#[test]
fn the_annotation_has_the_manifest_as_kubectl_writes_it() {
    let manifest =
        json!({ "metadata": { "name": "one", "annotations": { "a": "b" } }, "spec": { "x": "<&>\u{2028}" } });
    let annotated = annotated(&manifest, false);
    let expected = "{\"metadata\":{\"annotations\":{\"a\":\"b\"},\"name\":\"one\"},\"spec\":{\"x\":\"\\u003c\\u0026\\u003e\\u2028\"}}\n";
    assert_eq!(annotated["metadata"]["annotations"][keys::LAST_APPLIED], expected);
    assert_eq!(annotated["metadata"]["annotations"]["a"], "b");
    assert_eq!(annotated["spec"], manifest["spec"]);
    // An annotation in a manifest that was copied from a cluster is not kept within itself.
    assert_eq!(super::annotated(&annotated, false), annotated);
}

#[test]
fn the_annotation_of_a_secret_has_no_values() {
    let secret =
        json!({ "kind": "Secret", "metadata": {}, "data": { "old": "b2xk" }, "stringData": { "token": "hush" } });
    let data = with_data(secret);
    assert_eq!(data["data"], json!({ "old": "b2xk", "token": "aHVzaA==" }));
    assert!(data.get("stringData").is_none());
    let annotated = annotated(&data, true);
    let kept = annotated["metadata"]["annotations"][keys::LAST_APPLIED].as_str().unwrap();
    assert!(!kept.contains("hush") && !kept.contains("b2xk") && kept.contains("\"token\":\"\""), "{kept}");
    assert_eq!(annotated["data"], data["data"]);
}

#[test]
fn a_key_that_kubectl_applied_as_a_text_is_removed_with_it() {
    let mut current = json!({ "kind": "Secret", "metadata": { "annotations": {} }, "data": { "a": "x", "b": "y" } });
    let last = json!({ "kind": "Secret", "stringData": { "a": "1", "b": "2" } });
    current["metadata"]["annotations"][keys::LAST_APPLIED] = json!(last.to_string());
    let new = json!({ "kind": "Secret", "metadata": {}, "data": { "a": "x" } });
    assert_eq!(three_way(&annotated(&new, true), &current)["data"], json!({ "b": null }));
}
