//! datatrove's tokenized files (`pipeline/tokens/tokenizer.py`): `NAME.ds` holds ids, `.ds.index` the cumulative ends of
//! documents in tokens, `.ds.loss` a byte a token, `.ds.metadata` three lines of text.
//!
//! A document of the index is a segment; the padding of a window is one more.

use mellama_storage::{ObjectEntry, Workdir};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::window::Window;

/// The four files of one object.
struct Object {
    ids: File,
    index: File,
    loss: File,
    store: Workdir,
    metadata: String,
    /// Tokens so far.
    tokens: u64,
}

/// `.ds` files and what lies beside each.
pub(crate) struct Ds {
    shape: Shape,
    object: Option<Object>,
}

impl Ds {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, object: None }
    }
}

impl Layout for Ds {
    fn most_windows(&self) -> u64 {
        u64::MAX
    }

    fn key(&self, number: u64) -> String {
        format!("{}_{number:05}_00000_shuffled.ds", self.shape.split)
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let key = self.key(number);
        let begin = |ending: &str| File::begin(store, format!("{key}{ending}"), windows);
        let (ids, index, loss) = (begin("")?, begin(".index")?, begin(".loss")?);
        let metadata = format!("{key}.metadata");
        self.object = Some(Object { ids, index, loss, store: store.clone(), metadata, tokens: 0 });
        Ok(Place { first: 0, stride: self.shape.window_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        let object = begun(&mut self.object);
        object.ids.write(window.id_bytes)?;
        object.loss.write(window.mask)?;
        let mut ends = Vec::new();
        for (range, _) in window.sequence.segment_ranges() {
            ends.extend_from_slice(&(object.tokens + u64::from(range.end)).to_le_bytes());
        }
        let window_end = object.tokens + u64::from(self.shape.sequence_length);
        if window.sequence.filled() < self.shape.sequence_length {
            ends.extend_from_slice(&window_end.to_le_bytes());
        }
        object.tokens = window_end;
        object.index.write(&ends)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        let object = take(&mut self.object);
        let text = metadata_text(&self.shape.tokenizer, self.shape.width.bytes(), object.tokens);
        let metadata = File::put(&object.store, &object.metadata, 3, text.as_bytes())?;
        Ok(vec![object.ids.publish()?, object.index.publish()?, object.loss.publish()?, metadata])
    }
}

/// Tokenizer and width, count, count for people; no line end after the last.
fn metadata_text(tokenizer: &str, width_bytes: u64, tokens: u64) -> String {
    format!("{tokenizer}|{width_bytes}\n{tokens}\n{}", human(tokens))
}

/// Three significant digits and a prefix of the thousands, as datatrove's metadata count tokens: `6.00 T`, `15.0 MT`, `123 kT`.
fn human(tokens: u64) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let exponent = tokens.checked_ilog10().unwrap_or(0);
    let value = tokens as f64 / 10_f64.powi((exponent / 3 * 3) as i32);
    let decimals = (2 - exponent % 3) as usize;
    format!("{value:.decimals$} {}T", PREFIXES[(exponent / 3) as usize])
}

#[cfg(test)]
mod tests {
    use super::{human, metadata_text};

    #[test]
    fn golden_metadata() {
        assert_eq!(metadata_text("tok", 2, 6), "tok|2\n6\n6.00 T");
        assert_eq!(metadata_text("tok", 4, 1_500_000), "tok|4\n1500000\n1.50 MT");
    }

    #[test]
    fn tokens_are_counted_for_people_in_three_digits() {
        let check = |tokens: u64, expected: &str| assert_eq!(human(tokens), expected);
        check(1, "1.00 T");
        check(999, "999 T");
        check(1000, "1.00 kT");
        check(15_260, "15.3 kT");
        check(999_999, "1000 kT");
        check(268_435_456, "268 MT");
        check(129_000_000_000, "129 GT");
        check(u64::MAX, "18.4 ET");
    }
}
