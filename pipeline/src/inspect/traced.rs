//! The answer of `inspect --id`, as JSON and as text for people.

use serde::Serialize;
use serde_json::Value;

/// What has an id, in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    /// The folder.
    pub workdir: String,
    /// The id as it was asked for.
    pub asked: String,
    /// Documents and conversations, in the order of the corpus.
    pub documents: Vec<Traced>,
    /// Records that became no document, and notices.
    pub unwritten: Vec<Unwritten>,
}

/// One document: where it lies, what became of it, where it is in the shards.
#[derive(Debug, Clone, Serialize)]
pub struct Traced {
    /// Document id.
    pub id: String,
    /// Version of the record.
    pub version: u32,
    /// Document key: its 16 bytes, as tables hold them, in hexadecimal digits.
    pub key: String,
    /// Source.
    pub source: String,
    /// `open`, `dua` or `phi`.
    pub sensitivity: String,
    /// Names of an open record, such as `pmid:1`.
    pub names: Vec<String>,
    /// Documents object; null for a conversation.
    pub object: Option<String>,
    /// Row in it.
    pub row: Option<u64>,
    /// Raw object, and the record's byte in the decompressed stream.
    pub origin: Option<(String, u64)>,
    /// What `dedup` took, if anything.
    pub removal: Option<Removal>,
    /// Its tokens, where it was kept.
    pub runs: Option<Runs>,
    /// What became of a conversation; null for a document.
    pub spoken: Option<Spoken>,
    /// Record of the retraction that took it out of the shards.
    pub retracted: Option<String>,
    /// Whether shards are there at all.
    pub is_published: bool,
    /// Pieces in the shards.
    pub placements: Vec<Placed>,
}

/// Why later stages leave a document out.
#[derive(Debug, Clone, Serialize)]
pub struct Removal {
    /// A rule of the decisions, `superseded`, `deleted`, `retracted` or `contaminated`.
    pub reason: String,
    /// All of it, or ranges of the text.
    pub is_whole: bool,
    /// The document in its place, with rule and similarity.
    pub stands: Option<Value>,
    /// Benchmark items that it holds.
    pub contaminated_by: Option<Value>,
}

/// A document's tokens.
#[derive(Debug, Clone, Serialize)]
pub struct Runs {
    /// Token object.
    pub object: String,
    /// Row of its index.
    pub row: u64,
    /// Tokens, begin and end tokens included.
    pub tokens: u32,
    /// Kept for validation.
    pub is_heldout: bool,
}

/// What `instruct-data` made of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct Spoken {
    /// Tokens, those of the template included.
    pub tokens: u32,
    /// Why it is in no shard: `too-long`.
    pub left_out: Option<String>,
}

/// A piece of a document in a shard.
#[derive(Debug, Clone, Serialize)]
pub struct Placed {
    /// `train`, `heldout` or `instruct`.
    pub part: &'static str,
    /// Shard.
    pub shard: String,
    /// Row of the sequence.
    pub sequence: u64,
    /// Positions in the sequence, the end exclusive.
    pub positions: (u32, u32),
    /// Tokens of the document, the end exclusive.
    pub tokens: (u32, u32),
    /// Pass over the source.
    pub epoch: u32,
}

/// A record that a cleaning rule dropped, or a notice that takes records back.
#[derive(Debug, Clone, Serialize)]
pub struct Unwritten {
    /// Source.
    pub source: String,
    /// Document id, or native id of a notice.
    pub id: String,
    /// The rule, or the notice: `deleted` or `retracted`.
    pub reason: String,
    /// Raw object.
    pub object: String,
    /// The record's byte in the decompressed stream.
    pub byte_offset: u64,
}

impl Unwritten {
    /// From a line of `drops/` or `withdrawals/`; `reason` is the member that says why.
    pub(super) fn of(source: &str, line: &Value, reason: &str) -> Unwritten {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let id = if line["id"].is_string() { text("id") } else { text("native_id") };
        let byte_offset = line["byte_offset"].as_u64().unwrap_or(0);
        Unwritten { source: source.to_owned(), id, reason: text(reason), object: text("object"), byte_offset }
    }
}

impl Trace {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.documents.iter().flat_map(Traced::lines).collect();
        for Unwritten { source, id, reason, object, byte_offset } in &self.unwritten {
            lines.push(format!("{source}: {id}: no document: {reason}, {object} at byte {byte_offset}"));
        }
        lines.join("\n")
    }
}

impl Traced {
    /// What became of it, in a few words.
    pub fn state(&self) -> String {
        if let Some(record) = &self.retracted {
            return format!("retracted, {record}");
        }
        if let Some(removal) = self.removal.as_ref().filter(|removal| removal.is_whole) {
            return removal.text();
        }
        if let Some(spoken) = &self.spoken {
            return match &spoken.left_out {
                None => "a conversation".to_owned(),
                Some(reason) => format!("a conversation, left out: {reason} for a sequence"),
            };
        }
        match &self.runs {
            None => "not tokenized yet".to_owned(),
            Some(_) if !self.is_published => "not published yet".to_owned(),
            Some(runs) if runs.is_heldout => "held out".to_owned(),
            Some(_) if self.placements.is_empty() => "not used by the mixture".to_owned(),
            Some(_) => "trained on".to_owned(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let Traced { id, version, source, sensitivity, key, .. } = self;
        let mut lines = vec![format!("{id} version {version} ({source}, {sensitivity}), key {key}: {}", self.state())];
        if !self.names.is_empty() {
            lines.push(format!("  names     {}", self.names.join(", ")));
        }
        if let (Some(object), Some(row)) = (&self.object, self.row) {
            lines.push(format!("  document  {object} row {row}"));
        }
        if let Some((object, offset)) = &self.origin {
            lines.push(format!("  read from {object} at byte {offset}"));
        }
        if let Some(removal) = self.removal.as_ref().filter(|removal| !removal.is_whole) {
            lines.push(format!("  cut       {}", removal.text()));
        }
        if let Some(Runs { object, row, tokens, .. }) = &self.runs {
            lines.push(format!("  tokens    {tokens}, {object} row {row}"));
        }
        if let Some(Spoken { tokens, .. }) = &self.spoken {
            lines.push(format!("  tokens    {tokens}"));
        }
        for placed in &self.placements {
            let Placed { part, shard, sequence, positions, tokens, epoch } = placed;
            lines.push(format!(
                "  {part:<9} {shard} sequence {sequence} positions {}..{}: tokens {}..{} of epoch {epoch}",
                positions.0, positions.1, tokens.0, tokens.1
            ));
        }
        lines
    }
}

impl Removal {
    fn text(&self) -> String {
        let mut text = format!("removed: {}", self.reason);
        if let Some(stands) = &self.stands {
            let release = stands["kept_release"].as_str().unwrap_or_default();
            let place = if release.is_empty() { String::new() } else { format!(" of release {release}") };
            let kept = stands["kept_id"].as_str().unwrap_or_default();
            text = format!("{text}, {kept}{place} stands in its place (similarity {})", stands["similarity"]);
        }
        if let Some(items) = self.contaminated_by.as_ref().and_then(Value::as_array) {
            let item =
                |item: &Value| format!("{} {}", item["benchmark"].as_str().unwrap_or("?"), item["item"].as_str().unwrap_or("?"));
            text = format!("{text} by {}", items.iter().map(item).collect::<Vec<_>>().join(", "));
        }
        text
    }
}
