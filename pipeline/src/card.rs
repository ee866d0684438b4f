//! The dataset card: `README.md` of a work folder, with the YAML header that dataset hubs read.
//!
//! It is written by a task of `publish`, which knows what of the packed sequences the shards hold; a retraction writes its figures
//! again.

mod licences;
mod reading;
mod retractions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use mellama_shards::Tokenizer;
use mellama_storage::PartWriter;

use crate::context::Context;
use crate::failure::Failure;
use crate::recipe::SourceRecipe;
use crate::separators::Separators;
use crate::stage::Stage;
use crate::stages::{ingest, mix, tokenize};

pub(crate) use retractions::with_retractions;
use retractions::{COUNTS, HEADLINE, HEADLINE_END, SOURCES};

/// What `publish` puts into the shards, and what it leaves out where whole sequences are asked for.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Sequences, tokens, padding and segments by stream.
    pub streams: BTreeMap<String, [u64; 4]>,
    /// Training tokens left out, by source of the recipe.
    pub left_out: Vec<u64>,
}

impl Published {
    /// Tokens for training of a mixture.
    fn tokens(&self, facts: &mix::MixFacts) -> u64 {
        let train = facts.streams.iter().filter(|stream| !stream.heldout);
        train.filter_map(|stream| self.streams.get(&stream.name)).map(|[_, tokens, ..]| tokens).sum()
    }
}

/// Writes the card of the published shards; it is complete once publish is.
///
/// # Errors
/// `Failure::Storage`; the stages before publish must be done.
pub(crate) fn write(context: &Context<'_>, published: &Published) -> Result<PartWriter, Failure> {
    let mut part = context.workdir.part()?;
    part.write_all(text(context, published)?.as_bytes()).map_err(|e| Failure::writing("README.md", &e))?;
    Ok(part)
}

/// Writing to a string cannot fail, so the results of `write!` are not looked at.
fn text(context: &Context<'_>, published: &Published) -> Result<String, Failure> {
    let facts = mix::facts_of(context)?;
    let tokenizer = context.tokenizer()?;
    let mut text = header(context, &facts, published);
    let _ = write!(text, "# {}\n\n", escape(&context.file.recipe.name));
    let _ = writeln!(text, "{HEADLINE}{}{HEADLINE_END}", published.tokens(&facts));
    text.push_str(&summary(context, &facts, &tokenizer, context.separators()?));
    text.push_str(&counts(&facts, published));
    let _ = write!(text, "{SOURCES}{SOURCES_TABLE}");
    for (source, left_out) in context.corpus().source.iter().zip(published.left_out.iter().chain(std::iter::repeat(&0))) {
        text.push_str(&row(context, &facts, source, *left_out)?);
    }
    text.push_str(&licences::text(context)?);
    text.push_str(&reading::text(&tokenizer, pack_length(context), has_heldout(&facts)));
    Ok(text)
}

const SOURCES_TABLE: &str = "\n\
    How every document left on the way is in `report.html`, which the last stage writes; which duplicate stood for which is in `decisions/`. An epoch is one \
    pass over a source; part of one is a keyed choice of its documents, the last of them cut.\n\n\
    | source | domain | format | licence | sensitivity | records read | documents after cleaning | documents available | tokens available | tokens used | epochs |\n\
    |---|---|---|---|---|---|---|---|---|---|---|\n";

fn pack_length(context: &Context<'_>) -> u32 {
    context.corpus().pack.as_ref().expect("the card is written by publish").sequence_length
}

fn has_heldout(facts: &mix::MixFacts) -> bool {
    facts.streams.iter().any(|stream| stream.heldout)
}

/// What a hub reads.
fn header(context: &Context<'_>, facts: &mix::MixFacts, published: &Published) -> String {
    let recipe = &context.file.recipe;
    let train = facts.streams.iter().filter(|stream| !stream.heldout);
    let sequences = train.filter_map(|stream| published.streams.get(&stream.name)).map(|[sequences, ..]| sequences).sum();
    let mut text = String::from("---\n");
    let _ = writeln!(text, "pretty_name: {}", serde_json::json!(recipe.name));
    let _ = write!(
        text,
        "license: other\nlicense_name: by-source\nlicense_link: README.md\nsize_categories:\n- {}\n\
         task_categories:\n- text-generation\ntags:\n- medical\n- tokenized\nconfigs:\n- config_name: cpt\n  default: true\n  data_files:\n",
        size_category(sequences)
    );
    // A pattern that nothing matches would keep a hub from loading what there is.
    if sequences > 0 {
        text.push_str("  - split: train\n    path: shards/cpt/train-*.parquet\n");
    }
    if has_heldout(facts) {
        text.push_str("  - split: validation\n    path: shards/cpt/heldout-*.parquet\n");
    }
    if recipe.instruct.as_ref().is_some_and(|i| !i.source.is_empty()) {
        text.push_str("- config_name: instruct\n  data_files:\n  - split: train\n    path: shards/instruct/train-*.parquet\n");
    }
    text.push_str("---\n\n");
    text
}

/// The hub's words for a number of rows.
fn size_category(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        _ => "n>1B",
    }
}

fn summary(context: &Context<'_>, facts: &mix::MixFacts, tokenizer: &Tokenizer, separators: Separators) -> String {
    let corpus = context.corpus();
    let pack = corpus.pack.as_ref().expect("the card is written by publish");
    let highest = corpus.source.iter().map(SourceRecipe::resolved_sensitivity).max();
    let mut text = String::new();
    let sensitivity = highest.map_or("open", |s| s.as_str());
    let _ = writeln!(text, "- **Sensitivity: {sensitivity}.** It is inherited by everything made from these shards.");
    if sensitivity != "open" {
        text.push_str("- Not for a public place: sources below that are not open stay where the agreement over them allows.\n");
    }
    let _ = writeln!(
        text,
        "- Tokenizer: `{}`, {} ids, BLAKE3 `{}`.",
        escape(tokenizer.name()),
        tokenizer.vocabulary_size(),
        tokenizer.digest()
    );
    let _ = writeln!(text, "- {}", ends_policy(separators));
    let _ = writeln!(
        text,
        "- Sequences of {} tokens, packing `{}`: {}. A document longer than a sequence is cut into fragments: all but its last \
         fragment fill a sequence each; `segment_offsets` says where in the document a fragment begins. {}",
        pack.sequence_length,
        pack.method,
        match pack.method.as_str() {
            "concatenate" => "documents back to back in their order",
            _ => "best fit decreasing inside windows of the order, whole documents where they fit",
        },
        match facts.unit.as_str() {
            "sequences" => "Of a document, what stands in a sequence over the quota is left out.",
            _ => "Of a fragmented document nothing is left out.",
        }
    );
    let _ = write!(text, "- Mixture unit `{}`, seed {}.\n\n", facts.unit, context.file.recipe.seed);
    text
}

/// Which ids begin and end a document.
fn ends_policy(separators: Separators) -> String {
    let id = |name: &str, id: Option<u32>| id.map(|id| format!("{name} (id {id})"));
    match (id("the begin token", separators.bos), id("the end token", separators.eos)) {
        (Some(begin), Some(end)) => format!("Every document is {begin}, its tokens, {end}; both count as tokens."),
        (Some(one), None) => format!("Every document is {one} and its tokens; there is no end token."),
        (None, Some(one)) => format!("Every document is its tokens and {one}; there is no begin token."),
        (None, None) => "Documents have neither begin nor end tokens.".to_owned(),
    }
}

/// Sequences, tokens and padding of each stream, as published.
fn counts(facts: &mix::MixFacts, published: &Published) -> String {
    let mut text = format!("{COUNTS}\n| stream | sequences | tokens | padding | segments |\n|---|---|---|---|---|\n");
    let mut sums: BTreeMap<bool, [u64; 4]> = BTreeMap::new();
    for stream in &facts.streams {
        let counts = published.streams.get(&stream.name).copied().unwrap_or_default();
        let sum = sums.entry(stream.heldout).or_default();
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        text.push_str(&counts_row(&stream.name, counts));
    }
    for (heldout, sum) in sums {
        text.push_str(&counts_row(if heldout { "**held out**" } else { "**training**" }, sum));
    }
    if facts.unit == "sequences" {
        let tokens: u64 = published.left_out.iter().sum();
        let _ = writeln!(
            text,
            "\nWhole sequences are published: of each training stream as many as its quota holds. {tokens} tokens of the others are \
             left out."
        );
    }
    text.push('\n');
    text
}

fn counts_row(name: &str, [sequences, tokens, padding, segments]: [u64; 4]) -> String {
    format!("| {name} | {sequences} | {tokens} | {padding} | {segments} |\n")
}

fn row(context: &Context<'_>, facts: &mix::MixFacts, source: &SourceRecipe, left_out: u64) -> Result<String, Failure> {
    let mut counts = mellama_storage::Counts::default();
    for commit in context.commits(Stage::Ingest)? {
        if ingest::facts_of(&commit)?.source == source.name {
            counts += commit.counts;
        }
    }
    let mut available = 0;
    for commit in context.commits(Stage::Tokenize)? {
        let of_task = tokenize::facts_of(&commit)?;
        if of_task.source == source.name {
            available += of_task.totals.documents - of_task.totals.heldout_documents;
        }
    }
    let share = facts.sources.iter().find(|share| share.source == source.name);
    let (supply, quota, epochs) = share.map_or((0, 0, 0.0), |s| (s.supply, s.quota, s.epochs));
    let used = quota.saturating_sub(left_out);
    let epochs = if left_out == 0 { epochs } else { used as f64 / supply.max(1) as f64 };
    Ok(format!(
        "| {} | {} | {} | {} | {} | {} | {} | {available} | {supply} | {used} | {epochs:.3} |\n",
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
