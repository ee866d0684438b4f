//! datatrove's files: sizes, ends that reach the last token, one mask byte a token, three lines of metadata.

use super::boundaries::Ends;
use super::{Body, Checked, Mask, Place, wrong};

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    place.check_raw_size()?;
    let beside = |ending: &str| place.open(&format!("{}{ending}", place.part.object));
    let index = beside(".index")?;
    if index.size_bytes() == 0 || index.size_bytes() % 8 != 0 {
        return wrong(index.key(), format!("{} bytes, expected 8 for each document", index.size_bytes()));
    }
    let loss = beside(".loss")?;
    if loss.size_bytes() != place.tokens() {
        return wrong(loss.key(), format!("{} bytes, expected one for each of {} tokens", loss.size_bytes(), place.tokens()));
    }
    let mut metadata = beside(".metadata")?;
    let text = metadata.all()?;
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    let first = format!("{}|{}", place.manifest.tokenizer_digest, place.width());
    let fits = lines.len() == 3 && lines[0] == first.as_bytes() && lines[1] == place.tokens().to_string().as_bytes();
    if !fits || !lines[2].ends_with(b"T") {
        return wrong(metadata.key(), "not tokenizer, width and number of tokens");
    }
    let mut body = Body::plain(0, place.length() * place.width());
    body.mask = Some(Mask { object: loss, first: 0, stride: place.length() });
    body.boundaries = Some(Box::new(Ends::new(index)));
    Ok(body)
}
