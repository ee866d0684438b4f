//! MDS shards against `index.json`: offsets, configuration, columns in order, sizes.

use serde_json::{Value, json};

use super::object::Object;
use super::{Body, Checked, Mask, Place, wrong};

const INDEX: &str = "index.json";
/// Largest shard of the configuration.
const SIZE_LIMIT: u64 = 1 << 26;

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    let entry = index_entry(place)?;
    let columns = columns(place, &entry)?;
    let key = &place.part.object;
    let mut object = place.open(key)?;
    let first = check_head(place, &mut object, &entry)?;
    let sample: u64 = columns.iter().map(|column| column.1).sum();
    let samples = place.part.windows;
    let offsets = object.u32s(4, samples + 1)?;
    if offsets.iter().zip(0..).any(|(&offset, window)| u64::from(offset) != first + window * sample) {
        return wrong(key, "offsets are not the running sums of the samples");
    }
    if u64::from(offsets[samples as usize]) != object.size_bytes() || object.size_bytes() > SIZE_LIMIT {
        return wrong(key, format!("{} bytes, its last offset is {}", object.size_bytes(), offsets[samples as usize]));
    }
    let column_at = |name: &str| {
        let before = columns.iter().position(|column| column.0 == name)?;
        Some(first + columns[..before].iter().map(|column| column.1).sum::<u64>())
    };
    let Some(tokens) = column_at("tokens") else { return wrong(INDEX, "no column tokens") };
    let mut body = Body::plain(tokens, sample);
    if let Some(first) = column_at("loss_mask") {
        body.mask = Some(Mask { object: place.open(key)?, first, stride: sample });
    }
    body.segment_ids = column_at("segment_ids");
    Ok(body)
}

/// The shard's entry, its own numbers checked.
fn index_entry(place: &Place<'_>) -> Checked<Value> {
    let index: Value = match serde_json::from_slice(&place.open(INDEX)?.all()?) {
        Ok(index) => index,
        Err(_) => return wrong(INDEX, "no JSON"),
    };
    let shards = index["shards"].as_array().map_or(0, Vec::len);
    if index["version"] != 2 || shards != place.manifest.parts.len() {
        return wrong(INDEX, format!("{shards} shards, expected {} of version 2", place.manifest.parts.len()));
    }
    let entry = &index["shards"][place.index];
    let key = &place.part.object;
    let raw = json!({"basename": key, "bytes": place.open(key)?.size_bytes(), "hashes": {}});
    let fixed = [
        ("raw_data", raw),
        ("samples", json!(place.part.windows)),
        ("zip_data", Value::Null),
        ("compression", Value::Null),
        ("format", json!("mds")),
        ("hashes", json!([])),
        ("size_limit", json!(SIZE_LIMIT)),
        ("version", json!(2)),
    ];
    for (name, expected) in fixed {
        if entry[name] != expected {
            return wrong(INDEX, format!("entry {}: {name} is not that of {key}", place.index));
        }
    }
    Ok(entry.clone())
}

/// Names and bytes of the columns: each a fixed-size array of T elements, in the order of names.
fn columns(place: &Place<'_>, entry: &Value) -> Checked<Vec<(String, u64)>> {
    let list = |name: &str| entry[name].as_array().cloned().unwrap_or_default();
    let (names, encodings, sizes) = (list("column_names"), list("column_encodings"), list("column_sizes"));
    if names.len() != encodings.len() || names.len() != sizes.len() {
        return wrong(INDEX, "names, encodings and sizes of columns differ in number");
    }
    let mut columns = Vec::new();
    for ((name, encoding), size) in names.iter().zip(&encodings).zip(&sizes) {
        let (name, size) = (name.as_str().unwrap_or_default(), size.as_u64().unwrap_or(0));
        let (kind, bytes) = match (name, place.width()) {
            ("tokens", 2) => ("uint16", 2),
            ("tokens", _) => ("uint32", 4),
            ("loss_mask", _) => ("uint8", 1),
            ("segment_ids", _) => ("int32", 4),
            _ => return wrong(INDEX, format!("column {}: unknown", columns.len())),
        };
        if *encoding != format!("ndarray:{kind}:{}", place.length()) || size != bytes * place.length() {
            return wrong(INDEX, format!("column {name}: another type or size than a window's"));
        }
        columns.push((name.to_owned(), size));
    }
    let expected = if place.manifest.request.segments { 3 } else { 1 };
    if columns.len() != expected || !columns.is_sorted() {
        return wrong(INDEX, format!("{} columns, expected {expected} in the order of their names", columns.len()));
    }
    Ok(columns)
}

/// The shard's own head: number of samples, and a configuration that is the entry's. Returns the first offset.
fn check_head(place: &Place<'_>, object: &mut Object, entry: &Value) -> Checked<u64> {
    let key = place.part.object.as_str();
    let samples = u64::from(object.u32s(0, 1)?[0]);
    if samples != place.part.windows {
        return wrong(key, format!("header counts {samples} samples, expected {}", place.part.windows));
    }
    let first = u64::from(object.u32s(4, 1)?[0]);
    let config_at = 4 + 4 * (samples + 1);
    let Some(length) = first.checked_sub(config_at) else {
        return wrong(key, format!("first offset {first} lies before the configuration at {config_at}"));
    };
    let Ok(mut config) = serde_json::from_slice::<Value>(&object.bytes(config_at, length)?) else {
        return wrong(key, "configuration is no JSON");
    };
    for name in ["raw_data", "samples", "zip_data"] {
        config[name] = entry[name].clone();
    }
    if &config != entry {
        return wrong(key, "configuration differs from the entry of index.json");
    }
    Ok(first)
}
