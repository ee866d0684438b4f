//! How the shards are read: snippets that run as they stand in the work folder, and what the columns mean.

use std::fmt::Write as _;

use mellama_shards::Tokenizer;

/// The last part of the card. Writing to a string cannot fail, so the results of `write!` are not looked at.
pub(super) fn text(tokenizer: &Tokenizer, sequence_length: u32, has_heldout: bool) -> String {
    let width = if tokenizer.vocabulary_size() <= 1 << 16 { "u16" } else { "u32" };
    let mut text = String::from("\n## Columns\n\n| column | type | content |\n|---|---|---|\n");
    let _ = write!(
        text,
        "| `tokens` | {sequence_length} × {width} | ids; after the last segment's end padding, id 0 |\n\
         | `segment_ends` | list of u32 | exclusive ends of the segments, ascending; a segment begins where the one before ends |\n\
         | `segment_documents` | list of byte strings | key of the document that each segment is of |\n\
         | `segment_sources` | list of u16 | index into the sources above |\n\
         | `segment_offsets` | list of u32 | first token of the segment, counted in its document |\n\
         | `segment_epochs` | list of u32 | pass over the source, from 0 |\n\
         | `loss_mask` | list of truth values, or null | null: every position that is not padding is learned from |\n\n"
    );
    text.push_str(
        "Tokens of one segment belong together: attention does not cross `segment_ends`, and position ids start at 0 with each \
         segment.\n\n## Reading\n\nWith pandas, position ids included:\n\n",
    );
    text.push_str(PANDAS);
    text.push_str("\nWith DuckDB:\n\n");
    text.push_str(DUCKDB);
    text.push_str("\nAnd which documents the segments are of, where the work folder's `documents/` lie beside the shards:\n\n");
    text.push_str(DUCKDB_DOCUMENTS);
    text.push_str("\nWith datasets; the configurations above are for the folder's own path, or its address on a hub, as `load_dataset(PATH, \"cpt\")`:\n\n");
    text.push_str(DATASETS);
    if has_heldout {
        text.push_str("\nHeld-out documents are the split `validation`; they are never trained on.\n");
    }
    text
}

const PANDAS: &str = r#"```python
import glob
import numpy as np
import pandas as pd

shards = sorted(glob.glob("shards/cpt/train-*.parquet"))
row = pd.read_parquet(shards[0]).iloc[0]
ends = row["segment_ends"]
tokens = row["tokens"][: ends[-1]]                  # without padding
segments = np.split(tokens, ends[:-1])              # one array a document part
positions = np.concatenate([np.arange(len(segment)) for segment in segments])
assert len(positions) == len(tokens)
```
"#;

const DUCKDB: &str = r#"```python
import duckdb

print(duckdb.sql("""
    SELECT count(*) AS sequences, sum(segment_ends[-1]) AS tokens, sum(len(tokens) - segment_ends[-1]) AS padding
    FROM 'shards/cpt/train-*.parquet'
"""))
```
"#;

const DUCKDB_DOCUMENTS: &str = r#"```python
import duckdb

print(duckdb.sql("""
    SELECT documents.id, documents.source, count(*) AS segments
    FROM (SELECT unnest(segment_documents) AS key FROM 'shards/cpt/train-*.parquet') AS segments
    JOIN 'documents/*/*.parquet' AS documents USING (key)
    GROUP BY ALL ORDER BY segments DESC, documents.id LIMIT 5
"""))
```
"#;

const DATASETS: &str = r#"```python
from datasets import load_dataset

train = load_dataset("parquet", data_files="shards/cpt/train-*.parquet", split="train", streaming=True)
first = next(iter(train))
assert len(first["tokens"]) >= first["segment_ends"][-1]
```
"#;
