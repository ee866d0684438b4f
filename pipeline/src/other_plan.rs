//! What a plan has that the frozen one of its work folder has not: a setting of the recipe, an input, a version of the format.

use std::collections::BTreeMap;

use mellama_storage::{ProtocolError, Workdir};
use serde_json::Value;

use crate::failure::Failure;
use crate::plan::{PLAN_FORMAT, Plan};
use crate::recipe::RecipeFile;

/// Why the work folder `uri`, whose plan is `there`, is not that of `plan`: another recipe or version is a policy matter, changed
/// inputs are the input's.
pub(crate) fn refusal(uri: &str, there: &Value, file: &RecipeFile, plan: &Plan) -> Failure {
    let format = there["format"].as_u64().unwrap_or(0);
    if format != u64::from(PLAN_FORMAT) {
        return Failure::Policy(format!(
            "{uri}: was begun by another version of mellama (plan format {format}, this one writes {PLAN_FORMAT}); \
             go on with that version, or give another work folder with --workdir"
        ));
    }
    let here = serde_json::to_value(plan.frozen(&file.recipe)).expect("a plan has string keys only");
    if let Some(setting) = first_difference("", &there["recipe"], &here["recipe"]) {
        return Failure::Policy(format!(
            "{uri}: belongs to a run of another recipe ({setting} differs); give another work folder with --workdir or in the recipe, or --new-version"
        ));
    }
    let changed = changed_input(&inputs(there), &inputs(&here)).map_or_else(String::new, |changed| format!(": {changed}"));
    Failure::Input(format!(
        "{uri}: the inputs are not those that this run was planned with{changed}; \
         put them back, or give another work folder with --workdir"
    ))
}

/// Refuses a work folder that another recipe has: whoever names a recipe means its run. Inputs may be gone by then.
///
/// # Errors
/// `Failure::Policy` with the first setting that differs, and the store's own failures; a folder without a plan, or with that of
/// another version, is none to refuse here.
pub fn check_recipe(uri: &str, file: &RecipeFile) -> Result<(), Failure> {
    let workdir = match Workdir::open_existing(file.stores(), uri) {
        Err(ProtocolError::Store(error)) if error.is_not_found() => return Ok(()),
        opened => opened?,
    };
    let Some(there) = workdir.read_plan()?.filter(|there| there["format"].as_u64() == Some(u64::from(PLAN_FORMAT))) else {
        return Ok(());
    };
    let here = serde_json::to_value(&file.recipe).unwrap_or_default();
    let Some(setting) = first_difference("", &there["recipe"], &here) else { return Ok(()) };
    Err(Failure::Policy(format!(
        "{uri}: belongs to a run of another recipe ({setting} differs); give that recipe, the work folder of this one, or the folder itself"
    )))
}

/// Path of the first setting that differs, as a recipe writes it; entries of a list go by their names.
fn first_difference(path: &str, one: &Value, other: &Value) -> Option<String> {
    if one == other {
        return None;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let inside = match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            let value = |of: &serde_json::Map<String, Value>, key: &String| of.get(key).cloned().unwrap_or_default();
            keys.into_iter().find_map(|key| first_difference(&below(key), &value(one, key), &value(other, key)))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).find_map(|(one, other)| match (one["name"].as_str(), other["name"].as_str()) {
                (Some(name), Some(same)) if name == same => first_difference(&format!("{path} \"{name}\""), one, other),
                _ => (one != other).then(|| path.to_owned()),
            })
        }
        _ => None,
    };
    Some(inside.unwrap_or_else(|| if path.is_empty() { "all of it".to_owned() } else { path.to_owned() }))
}

/// Size and version of every input object of a frozen plan, by name.
fn inputs(plan: &Value) -> BTreeMap<String, (u64, String)> {
    fn collect(value: &Value, found: &mut BTreeMap<String, (u64, String)>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            Value::Object(members) => {
                if let (Some(name), Some(etag)) = (value["name"].as_str(), value["etag"].as_str()) {
                    found.insert(name.to_owned(), (value["size_bytes"].as_u64().unwrap_or(0), etag.to_owned()));
                }
                members.iter().filter(|(key, _)| *key != "recipe").for_each(|(_, value)| collect(value, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    collect(plan, &mut found);
    found
}

/// The first input that was added, removed or replaced, and how many more.
fn changed_input(there: &BTreeMap<String, (u64, String)>, here: &BTreeMap<String, (u64, String)>) -> Option<String> {
    let mut changed = Vec::new();
    for (name, (size, etag)) in there {
        match here.get(name) {
            None => changed.push(format!("{name} is gone")),
            Some((new_size, _)) if new_size != size => changed.push(format!("{name} had {size} bytes and has {new_size}")),
            Some((_, new_etag)) if new_etag != etag => {
                changed.push(format!("{name} was written again or touched, of the same {size} bytes"));
            }
            Some(_) => {}
        }
    }
    changed.extend(here.keys().filter(|name| !there.contains_key(*name)).map(|name| format!("{name} is new")));
    let more = changed.len().checked_sub(1)?;
    let first = changed.swap_remove(0);
    Some(if more > 0 { format!("{first}, and {more} more changes") } else { first })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_setting_that_differs_is_named_by_its_path() {
        let recipe = |total: u64, passes: u64| {
            json!({"corpus": {"source": [{"name": "a", "max_epochs": 1}, {"name": "b", "max_epochs": passes}],
                   "mixture": {"tokens": total}}})
        };
        let check = |one: &Value, other: &Value, expected: Option<&str>| {
            assert_eq!(first_difference("", one, other).as_deref(), expected, "{one} {other}");
            assert_eq!(first_difference("", other, one).as_deref(), expected, "{other} {one}");
        };
        check(&recipe(1, 2), &recipe(1, 2), None);
        check(&recipe(1, 2), &recipe(3, 2), Some("corpus.mixture.tokens"));
        check(&recipe(1, 2), &recipe(1, 3), Some("corpus.source \"b\".max_epochs"));
        check(&recipe(1, 2), &json!({"corpus": {}}), Some("corpus.mixture"));
        check(&json!({"l": [1]}), &json!({"l": [1, 2]}), Some("l"));
        check(&json!({"l": [{"name": "a"}]}), &json!({"l": [{"name": "b"}]}), Some("l"));
    }

    #[test]
    fn the_first_input_that_changed_is_named() {
        let plan = |objects: &[(&str, u64, &str)]| {
            let inputs: Vec<Value> =
                objects.iter().map(|(name, size, etag)| json!({"name": name, "size_bytes": size, "etag": etag})).collect();
            json!({"recipe": {"name": "r", "etag": "none"}, "ingest": [{"source": 0, "inputs": inputs}], "tokenizer": null})
        };
        let check = |one: &[(&str, u64, &str)], other: &[(&str, u64, &str)], expected: Option<&str>| {
            assert_eq!(changed_input(&inputs(&plan(one)), &inputs(&plan(other))).as_deref(), expected);
        };
        check(&[("a", 1, "x")], &[("a", 1, "x")], None);
        check(&[("a", 1, "x")], &[("a", 2, "y")], Some("a had 1 bytes and has 2"));
        check(&[("a", 1, "x")], &[("a", 1, "y")], Some("a was written again or touched, of the same 1 bytes"));
        check(&[("a", 1, "x"), ("b", 1, "x")], &[("a", 1, "x")], Some("b is gone"));
        check(&[("a", 1, "x")], &[("a", 1, "x"), ("b", 1, "x")], Some("b is new"));
        check(&[("a", 1, "x")], &[("b", 1, "x")], Some("a is gone, and 1 more changes"));
    }
}
