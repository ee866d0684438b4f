//! The record that makes one task's output exist, and the entries that name objects in it and in manifests.
//! It is written by [`Workdir::commit_task`](crate::Workdir::commit_task); nothing here touches a store.

use crate::counts::Counts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One published object as commits, manifests and checkpoint manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// Key relative to the work folder.
    pub key: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the whole object, 64 lowercase hexadecimal digits.
    pub blake3: String,
    /// Rows, lines or whatever the object is counted in.
    pub records: u64,
}

/// What one task of one stage published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskCommit {
    /// Plan id.
    pub plan: String,
    /// Stage name: lowercase letters, digits and hyphens.
    pub stage: String,
    /// Task number, from 0.
    pub task: u64,
    /// The objects, in the order that the stage defines.
    pub objects: Vec<ObjectEntry>,
    /// Where what was read went; it balances.
    pub counts: Counts,
    /// What later stages need to know, as the stage defines it; the same for every attempt.
    pub facts: Value,
    /// The attempt that wrote it: provenance, outside [`digest`](Self::digest).
    pub attempt: String,
}

impl TaskCommit {
    /// 64 hexadecimal digits, equal exactly when two attempts published the same: BLAKE3 of the compact JSON of everything
    /// but `attempt`, members in the order above, members of `facts` sorted by name at every depth.
    pub fn digest(&self) -> String {
        #[derive(Serialize)]
        struct Content<'a> {
            plan: &'a str,
            stage: &'a str,
            task: u64,
            objects: &'a [ObjectEntry],
            counts: &'a Counts,
            facts: Value,
        }
        digest_of(&Content {
            plan: &self.plan,
            stage: &self.stage,
            task: self.task,
            objects: &self.objects,
            counts: &self.counts,
            facts: sorted(&self.facts),
        })
    }
}

/// How a commit or a manifest came to stand in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// This attempt published it.
    Committed,
    /// Another attempt had published the same.
    AlreadyThere,
}

/// BLAKE3 of the compact JSON of `content`.
pub(crate) fn digest_of<T: Serialize>(content: &T) -> String {
    let json = serde_json::to_vec(content).expect("strings, integers and JSON values with string keys always serialize");
    blake3::hash(&json).to_hex().to_string()
}

/// The same value with the members of every object sorted by name, whatever order the JSON library keeps them in.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let pairs = names.into_iter().map(|name| (name.clone(), sorted(&members[name])));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Tally;
    use serde_json::json;

    fn commit() -> TaskCommit {
        TaskCommit {
            plan: "p".into(),
            stage: "ingest".into(),
            task: 7,
            objects: vec![ObjectEntry { key: "a/b".into(), bytes: 3, blake3: "0".repeat(64), records: 1 }],
            counts: Counts { read: Tally::one(3), written: Tally::one(3), ..Counts::default() },
            facts: json!({"tokens": 5}),
            attempt: "1-0-1".into(),
        }
    }

    #[test]
    fn determinism_the_digest_is_of_everything_but_the_attempt() {
        let check = |name: &str, change: fn(&mut TaskCommit), same: bool| {
            let mut changed = commit();
            change(&mut changed);
            assert_eq!(changed.digest() == commit().digest(), same, "{name}");
        };
        check("attempt", |c| c.attempt = "2".into(), true);
        check("plan", |c| c.plan = "q".into(), false);
        check("stage", |c| c.stage = "pack".into(), false);
        check("task", |c| c.task = 8, false);
        check("key", |c| c.objects[0].key = "a/c".into(), false);
        check("bytes", |c| c.objects[0].bytes = 4, false);
        check("blake3", |c| c.objects[0].blake3 = "1".repeat(64), false);
        check("records", |c| c.objects[0].records = 2, false);
        check("counts", |c| c.counts.dropped = Tally::one(1), false);
        check("facts", |c| c.facts = json!({"tokens": 6}), false);
    }

    #[test]
    fn golden_digest() {
        let json = concat!(
            r#"{"plan":"p","stage":"ingest","task":7,"objects":[{"key":"a/b","bytes":3,"blake3":"#,
            r#""0000000000000000000000000000000000000000000000000000000000000000","records":1}],"#,
            r#""counts":{"read":{"documents":1,"bytes":3},"written":{"documents":1,"bytes":3},"#,
            r#""dropped":{"documents":0,"bytes":0},"rejected":{"documents":0,"bytes":0}},"facts":{"tokens":5}}"#
        );
        assert_eq!(commit().digest(), blake3::hash(json.as_bytes()).to_hex().to_string());
    }

    #[test]
    fn facts_are_sorted_at_every_depth() {
        let value: Value = serde_json::from_str(r#"{"b":[{"z":1,"a":2}],"a":{"y":0.1,"x":null}}"#).unwrap();
        assert_eq!(sorted(&value).to_string(), r#"{"a":{"x":null,"y":0.1},"b":[{"a":2,"z":1}]}"#);
    }
}
