//! `README.md` of an export: what it is, how it is read, what is inherited from the shards.

use std::fmt::Write as _;
use std::io::Write as _;

use mellama_shards::export::{DOCUMENTS_KEY, ExportManifest, Format};
use mellama_storage::{ObjectEntry, Workdir};

use crate::failure::Failure;

/// Publishes the page.
///
/// # Errors
/// `Failure::Storage`.
pub(super) fn write(folder: &Workdir, manifest: &ExportManifest, tokenizer: &str) -> Result<ObjectEntry, Failure> {
    let mut part = folder.part()?;
    part.write_all(text(manifest, tokenizer).as_bytes()).map_err(|e| Failure::writing("README.md", &e))?;
    Ok(part.finish_named("README.md", 0)?)
}

/// Writing to a string cannot fail, so the results of `write!` are not looked at.
fn text(manifest: &ExportManifest, tokenizer: &str) -> String {
    let (request, totals) = (&manifest.request, &manifest.totals);
    let mut text = format!("# Token shards, {} for `{}`\n\nWritten by mellama.\n\n", request.split, request.format);
    let _ = writeln!(text, "- **Sensitivity: {}.** {}", manifest.sensitivity, inherited(&manifest.sensitivity));
    let _ = writeln!(
        text,
        "- {} windows of {} positions: {} tokens, {} padding, {} documents. Window `i` is sequence `i` of the shards.",
        totals.windows, manifest.sequence_length, totals.tokens, totals.padding, totals.documents
    );
    let _ = writeln!(text, "- Reader: {}.", manifest.reader);
    let _ = writeln!(
        text,
        "- Tokenizer `{}`, {} ids, BLAKE3 `{}`; {} bytes an id.",
        tokenizer.replace('`', "'"),
        manifest.vocabulary_size,
        manifest.tokenizer_digest,
        manifest.width_bytes
    );
    let masks = match request.format.parse::<Format>() {
        Ok(Format::Ds) => "`.ds.loss` is 0 there.",
        Ok(Format::Olmo) => "`label_mask/` is 0 there.",
        Ok(Format::Mds) if request.segments => "Column `loss_mask` is 0 there and `segment_ids` is -1.",
        Ok(Format::Mds) => "Without `--segments` there is no mask: a trainer learns them as it learns every id.",
        _ => "The format has no mask: a trainer learns them as it learns every id.",
    };
    let _ = writeln!(text, "- Padded positions hold id {}. {masks}", request.fill_token);
    text.push_str("- `lineage/OBJECT.parquet`: for each segment its document, source, pass, tokens and bytes in the object.\n");
    if manifest.objects.iter().any(|object| object.key == DOCUMENTS_KEY) {
        text.push_str("- `lineage/documents.parquet`: id, source, licence and sensitivity of each document.\n");
    }
    text.push('\n');
    text.push_str("| source | tokens |\n|---|---|\n");
    for source in &totals.sources {
        let _ = writeln!(text, "| {} | {} |", source.source.replace('|', "\\|"), source.tokens);
    }
    text.push_str("\n`mellama verify` of this folder reads everything again.\n");
    text
}

fn inherited(sensitivity: &str) -> &'static str {
    match sensitivity {
        "open" => "It is inherited by everything made of these files.",
        _ => {
            "These files are restricted as their sources are: they stay where the agreement over them allows, and so does \
             everything made of them, models included."
        }
    }
}
