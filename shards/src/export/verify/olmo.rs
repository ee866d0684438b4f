//! `OLMo`'s maps: sizes of ids and masks; the rows are compared with the lineage as they are read.

use super::boundaries::Rows;
use super::{Body, Checked, Mask, Place, wrong};

pub(super) fn body(place: &Place<'_>) -> Checked<Body> {
    place.check_raw_size()?;
    let object = &place.part.object;
    let stem = object.strip_suffix(".npy").unwrap_or(object);
    let mask = place.open(&format!("label_mask/{stem}.npy"))?;
    if mask.size_bytes() != place.tokens() {
        return wrong(mask.key(), format!("{} bytes, expected one for each of {} tokens", mask.size_bytes(), place.tokens()));
    }
    let rows = place.open(&format!("{stem}.csv.gz"))?;
    let mut body = Body::plain(0, place.length() * place.width());
    body.mask = Some(Mask { object: mask, first: 0, stride: place.length() });
    body.boundaries = Some(Box::new(Rows::new(&rows)));
    Ok(body)
}
