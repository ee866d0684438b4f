//! The list that makes a stage's output exist. It is the truth about a stage; listings of folders are not.
//! It is written by [`Workdir::put_manifest`](crate::Workdir::put_manifest); nothing here touches a store.

use crate::commit::{ObjectEntry, digest_of, sorted};
use crate::counts::Counts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a finished stage published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageManifest {
    /// Plan id.
    pub plan: String,
    /// Stage name: lowercase letters, digits and hyphens.
    pub stage: String,
    /// Number of tasks; every one has a commit.
    pub tasks: u64,
    /// Digests of the commits, by task number.
    pub commits: Vec<String>,
    /// The objects, in the order that the stage defines.
    pub objects: Vec<ObjectEntry>,
    /// The sum of the commits' counts; it balances.
    pub counts: Counts,
    /// What later stages need to know, as the stage defines it; the same for every attempt.
    pub facts: Value,
    /// The attempt that wrote it: provenance, outside [`digest`](Self::digest).
    pub attempt: String,
}

impl StageManifest {
    /// 64 hexadecimal digits, equal exactly when two attempts published the same: BLAKE3 of the compact JSON of everything
    /// but `attempt`, as [`TaskCommit::digest`](crate::TaskCommit::digest) does it.
    pub fn digest(&self) -> String {
        #[derive(Serialize)]
        struct Content<'a> {
            plan: &'a str,
            stage: &'a str,
            tasks: u64,
            commits: &'a [String],
            objects: &'a [ObjectEntry],
            counts: &'a Counts,
            facts: Value,
        }
        digest_of(&Content {
            plan: &self.plan,
            stage: &self.stage,
            tasks: self.tasks,
            commits: &self.commits,
            objects: &self.objects,
            counts: &self.counts,
            facts: sorted(&self.facts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn determinism_the_digest_is_of_everything_but_the_attempt() {
        let manifest = StageManifest {
            plan: "p".into(),
            stage: "pack".into(),
            tasks: 1,
            commits: vec!["c".into()],
            objects: Vec::new(),
            counts: Counts::default(),
            facts: json!({"b": 1, "a": 2}),
            attempt: "1".into(),
        };
        let check = |name: &str, change: fn(&mut StageManifest), same: bool| {
            let mut changed = manifest.clone();
            change(&mut changed);
            assert_eq!(changed.digest() == manifest.digest(), same, "{name}");
        };
        check("attempt", |m| m.attempt = "2".into(), true);
        check("facts in another order", |m| m.facts = json!({"a": 2, "b": 1}), true);
        check("facts", |m| m.facts = json!({"a": 2}), false);
        check("commits", |m| m.commits = vec!["d".into()], false);
        check("tasks", |m| m.tasks = 2, false);
        check("stage", |m| m.stage = "mix".into(), false);
        check("plan", |m| m.plan = "q".into(), false);
    }
}
