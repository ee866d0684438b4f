//! The dataset card: `README.md` of a work folder, with the YAML header that dataset hubs read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use mellama_storage::PartWriter;

use crate::context::Context;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stages::{ingest, mix};

/// Writes the card of the published shards; it is complete once publish is.
///
/// # Errors
/// `Failure::Storage`; the stages before publish must be done.
pub(crate) fn write(context: &Context<'_>) -> Result<PartWriter, Failure> {
    let mut part = context.workdir.part()?;
    part.write_all(text(context)?.as_bytes()).map_err(|e| Failure::Storage(format!("README.md: {e}")))?;
    Ok(part)
}

/// Writing to a string cannot fail, so the results of `write!` are not looked at.
fn text(context: &Context<'_>) -> Result<String, Failure> {
    let recipe = &context.file.recipe;
    let corpus = context.corpus();
    let facts = mix::facts_of(context)?;
    let highest = corpus.source.iter().map(crate::recipe::SourceRecipe::resolved_sensitivity).max();
    let sensitivity = highest.map_or("open", |s| s.as_str());
    let tokenizer = context.tokenizer()?;
    let pack = corpus.pack.as_ref().expect("the card is written by publish");
    let has_heldout = facts.streams.iter().any(|s| s.heldout);
    let mut text = String::from("---\n");
    let _ = writeln!(text, "pretty_name: {}", serde_json::json!(recipe.name));
    text.push_str(
        "task_categories:\n- text-generation\ntags:\n- medical\n- tokenized\nconfigs:\n- config_name: cpt\n  data_files:\n",
    );
    text.push_str("  - split: train\n    path: shards/cpt/train-*.parquet\n");
    if has_heldout {
        text.push_str("  - split: validation\n    path: shards/cpt/heldout-*.parquet\n");
    }
    if recipe.instruct.as_ref().is_some_and(|i| !i.source.is_empty()) {
        text.push_str("- config_name: instruct\n  data_files:\n  - split: train\n    path: shards/instruct/train-*.parquet\n");
    }
    text.push_str("---\n\n");
    let _ = write!(text, "# {}\n\n", escape(&recipe.name));
    let _ = write!(text, "Packed token shards, {} tokens for training, written by mellama.\n\n", facts.total);
    let _ = writeln!(text, "- **Sensitivity: {sensitivity}.** It is inherited by everything made from these shards.");
    let _ = write!(
        text,
        "- Tokenizer: `{}`, {} tokens, BLAKE3 `{}`.\n- Sequence length {}, packing `{}`, mixture unit `{}`.\n- Seed {}.\n\n",
        escape(tokenizer.name()),
        tokenizer.vocabulary_size(),
        tokenizer.digest(),
        pack.sequence_length,
        pack.method,
        facts.unit,
        recipe.seed
    );
    text.push_str("## Sources\n\n| source | domain | format | licence | sensitivity | records read | documents | tokens available | tokens used | epochs |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for source in &corpus.source {
        text.push_str(&row(context, &facts, source)?);
    }
    text.push_str(
        "\nHow every document left on the way is in `report.html`; which duplicate stood for which is in `decisions/`.\n",
    );
    Ok(text)
}

fn row(context: &Context<'_>, facts: &mix::MixFacts, source: &crate::recipe::SourceRecipe) -> Result<String, Failure> {
    let mut counts = mellama_storage::Counts::default();
    for commit in context.commits(Stage::Ingest)? {
        if ingest::facts_of(&commit)?.source == source.name {
            counts += commit.counts;
        }
    }
    let share = facts.sources.iter().find(|share| share.source == source.name);
    let (supply, quota, epochs) = share.map_or((0, 0, 0.0), |s| (s.supply, s.quota, s.epochs));
    Ok(format!(
        "| {} | {} | {} | {} | {} | {} | {} | {supply} | {quota} | {epochs:.3} |\n",
        escape(&source.name),
        source.domain,
        escape(&source.format),
        escape(source.licence.as_deref().unwrap_or("per document")),
        source.resolved_sensitivity(),
        counts.read.documents,
        counts.written.documents,
    ))
}

/// Text that cannot end a table cell or begin markup.
fn escape(text: &str) -> String {
    let marks: BTreeMap<char, &str> = [('|', "\\|"), ('<', "&lt;"), ('\n', " "), ('`', "'")].into();
    text.chars().map(|c| marks.get(&c).map_or_else(|| c.to_string(), ToString::to_string)).collect()
}
