//! Megatron's index against its `.bin`: lengths, running offsets, documents, sizes.

use super::{Body, Checked, Place, wrong};

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    let key = format!("{}.idx", place.part.object.strip_suffix(".bin").unwrap_or(&place.part.object));
    let mut index = place.open(&key)?;
    if index.bytes(0, 9)? != *b"MMIDIDX\0\0" {
        return wrong(&key, "first bytes are not those of an index");
    }
    let version = index.u64s(9, 1)?[0];
    let code = index.bytes(17, 1)?[0];
    let counts = index.u64s(18, 2)?;
    let (sequences, entries) = (counts[0], counts[1]);
    let width = match code {
        8 => 2,
        4 => 4,
        _ => 0,
    };
    if version != 1 || width != place.width() {
        return wrong(&key, format!("version {version}, type {code}; expected 1 and the code of {} bytes", place.width()));
    }
    if sequences != place.part.windows || entries != sequences + 1 {
        return wrong(&key, format!("{sequences} sequences, {entries} entries; expected {} windows", place.part.windows));
    }
    if index.size_bytes() != 34 + 12 * sequences + 8 * entries {
        return wrong(&key, format!("{} bytes, its counts need {}", index.size_bytes(), 34 + 12 * sequences + 8 * entries));
    }
    if index.u32s(34, sequences)?.iter().any(|&length| u64::from(length) != place.length()) {
        return wrong(&key, "a sequence that is not a window long");
    }
    let stride = place.length() * width;
    if index.u64s(34 + 4 * sequences, sequences)?.iter().zip(0..).any(|(&offset, window)| offset != window * stride) {
        return wrong(&key, "byte offsets are not the running sums of the lengths");
    }
    if index.u64s(34 + 12 * sequences, entries)?.iter().zip(0..).any(|(&found, expected)| found != expected) {
        return wrong(&key, "document index does not count from 0 to the last sequence");
    }
    place.check_raw_size()?;
    Ok(Body::plain(0, stride))
}
