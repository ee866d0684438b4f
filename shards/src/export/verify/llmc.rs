//! llm.c's header: magic, version, count, zeros, and the exact size.

use super::{Body, Checked, Place, wrong};

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    let key = &place.part.object;
    let mut object = place.open(key)?;
    let words = object.u32s(0, 256)?;
    let expected = if place.width() == 2 { (20_240_520, 1) } else { (20_240_801, 7) };
    if (words[0], words[1]) != expected {
        return wrong(key, format!("magic {} version {}, expected {} and {}", words[0], words[1], expected.0, expected.1));
    }
    let count = words[2];
    if count == 0 || i32::try_from(count).is_err() || u64::from(count) != place.tokens() {
        return wrong(key, format!("header counts {count} tokens, expected {}", place.tokens()));
    }
    if words[3..].iter().any(|&word| word != 0) {
        return wrong(key, "words 3 to 255 of the header are not zero");
    }
    let size = 1024 + u64::from(count) * place.width();
    if object.size_bytes() != size {
        return wrong(key, format!("{} bytes, its header needs {size}", object.size_bytes()));
    }
    Ok(Body::plain(1024, place.length() * place.width()))
}
