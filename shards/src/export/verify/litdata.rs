//! litdata's chunk against its entry in `index.json`: sizes, offsets, type of the ids.

use serde_json::{Value, json};

use super::{Body, Checked, Place, wrong};

const INDEX: &str = "index.json";

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    let index: Value = match serde_json::from_slice(&place.open(INDEX)?.all()?) {
        Ok(index) => index,
        Err(_) => return wrong(INDEX, "no JSON"),
    };
    let chunks = index["chunks"].as_array().map_or(0, Vec::len);
    if chunks != place.manifest.parts.len() {
        return wrong(INDEX, format!("{chunks} chunks, expected {}", place.manifest.parts.len()));
    }
    let code = if place.width() == 2 { 5 } else { 6 };
    let config = json!({
        "compression": null, "encryption": null, "chunk_size": null, "chunk_bytes": null,
        "data_format": [format!("no_header_numpy:{code}")],
        "data_spec": "[1, {\"type\": null, \"context\": null, \"children_spec\": []}]",
        "item_loader": "TokensLoader",
    });
    if index["config"] != config {
        return wrong(INDEX, "its configuration is not that of plain ids of this width");
    }
    let chunk = &index["chunks"][place.index];
    let key = &place.part.object;
    let mut object = place.open(key)?;
    let (items, size) = (place.part.windows, object.size_bytes());
    let entry = [("chunk_bytes", size), ("chunk_size", items), ("dim", place.tokens())];
    if chunk["filename"] != *key || entry.iter().any(|(name, expected)| chunk[name].as_u64() != Some(*expected)) {
        return wrong(INDEX, format!("entry {} is not that of {key}", place.index));
    }
    let stride = place.length() * place.width();
    if u64::from(object.u32s(0, 1)?[0]) != items {
        return wrong(key, format!("header counts other than {items} items"));
    }
    let first = 4 + 4 * (items + 1);
    if object.u32s(4, items + 1)?.iter().zip(0..).any(|(&offset, item)| u64::from(offset) != first + item * stride) {
        return wrong(key, "offsets are not those of whole windows");
    }
    if size != first + items * stride {
        return wrong(key, format!("{size} bytes, its offsets end at {}", first + items * stride));
    }
    Ok(Body::plain(first, stride))
}
