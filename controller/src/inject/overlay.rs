//! A container of the user's own over one of ours, as Kubernetes merges patches: maps field by field, lists of things with an
//! identity thing by thing, everything else as a whole.

use serde_json::Value;

/// Lists of a container, and what tells their items apart.
const IDENTITIES: &[(&str, &str)] =
    &[("env", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")];

/// Lays `over` upon `base`.
pub fn lay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                let place = base.entry(key.clone()).or_insert(Value::Null);
                let identity = IDENTITIES.iter().find(|(list, _)| *list == key).map(|(_, identity)| *identity);
                match (identity, place, value) {
                    (Some(identity), Value::Array(base), Value::Array(over)) => lay_items(base, over, identity),
                    (_, place, value) => lay(place, value),
                }
            }
        }
        (base, over) => *base = over,
    }
}

fn lay_items(base: &mut Vec<Value>, over: Vec<Value>, identity: &str) {
    for item in over {
        match base.iter_mut().find(|known| known.get(identity) == item.get(identity)) {
            // A variable with another source must not keep the first one.
            Some(known) if identity == "name" => *known = item,
            Some(known) => lay(known, item),
            None => base.push(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_things_with_an_identity_are_merged_and_the_rest_is_replaced() {
        let mut base = json!({
            "args": ["run"],
            "env": [{ "name": "A", "valueFrom": { "fieldRef": {} } }, { "name": "B", "value": "1" }],
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
            "volumeMounts": [{ "name": "v", "mountPath": "/v", "readOnly": true }],
        });
        lay(
            &mut base,
            json!({
                "args": ["other"],
                "env": [{ "name": "A", "value": "2" }, { "name": "C", "value": "3" }],
                "resources": { "requests": { "cpu": "1" }, "limits": { "cpu": "2" } },
                "volumeMounts": [{ "name": "w", "mountPath": "/v" }],
            }),
        );
        assert_eq!(
            base,
            json!({
                "args": ["other"],
                "env": [{ "name": "A", "value": "2" }, { "name": "B", "value": "1" }, { "name": "C", "value": "3" }],
                "resources": { "requests": { "cpu": "1", "memory": "16Mi" }, "limits": { "cpu": "2" } },
                "volumeMounts": [{ "name": "w", "mountPath": "/v", "readOnly": true }],
            })
        );
    }
}
