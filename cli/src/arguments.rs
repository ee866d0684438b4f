//! The command line as clap sees it: names, flags and help. No logic.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Raw medical text to a trained and evaluated language model.
#[derive(Debug, Parser)]
#[command(name = "mellama", version, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 recipe or arguments, 3 input, 4 storage, 5 verification, \
                        75 try later, 99 nothing to do (stage), 130/143 stopped by a signal.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) how: How,
}

/// How to run; none of it changes what comes out.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How to run")]
pub(crate) struct How {
    /// Worker threads; all cores by default.
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Memory for buffers, for example 512MiB or 4GiB.
    #[arg(long, global = true, value_name = "SIZE", default_value = "2GiB", value_parser = crate::size::parse)]
    pub(crate) memory: u64,
    /// Folder for spill files; the system's temporary folder by default.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) scratch: Option<PathBuf>,
    /// Folder with NVIDIA's libraries (NVRTC, cuBLASLt), where the system does not find them.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) cuda_libs: Option<PathBuf>,
    /// Where another plan has the work folder, work in versions/PLAN below it.
    #[arg(long, global = true)]
    pub(crate) new_version: bool,
    /// Show nothing but results, warnings and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Results as JSON on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How progress and errors are written to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A recipe and where its output goes.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeArguments {
    /// The recipe, a TOML file.
    pub(crate) recipe: PathBuf,
    /// Output folder in place of the recipe's workdir.
    #[arg(long, value_name = "URI")]
    pub(crate) workdir: Option<String>,
}

/// A recipe, or the folder that a run wrote.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArguments {
    /// A recipe or a work folder.
    #[arg(value_name = "RECIPE or WORKDIR")]
    pub(crate) target: String,
    /// Output folder in place of the recipe's workdir.
    #[arg(long, value_name = "URI")]
    pub(crate) workdir: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Do everything that is not yet done.
    Run {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Stop after this stage.
        #[arg(long, value_name = "STAGE")]
        until: Option<String>,
    },
    /// Show tasks, bytes, tokens, epochs and cost; touches nothing.
    Plan {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// The stages with their tasks alone: what a scheduler needs, small whatever the corpus.
        #[arg(long)]
        stages: bool,
    },
    /// Run one stage or one task of it; the last line on standard output is one JSON object.
    Stage {
        /// ingest, dedup, tokenize, mix, pack, publish, instruct-data, cpt, instruct, evaluate or report.
        name: String,
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Only this task, from 0, or those from FIRST on and before END.
        #[arg(long, value_name = "N or FIRST..END", value_parser = tasks)]
        task: Option<Range<u64>>,
    },
    /// Show what is done, from the work folder alone.
    Status(TargetArguments),
    /// Read everything that was published again and compare lengths and digests.
    Verify(TargetArguments),
    /// Say where the report is; write it if the run is complete without one.
    Report(TargetArguments),
    /// Show documents, decisions, sequences with boundaries and masks, or a checkpoint; with --id what became of a document.
    Inspect {
        /// A file of a work folder, a checkpoint folder, or with --id a work folder.
        object: PathBuf,
        /// Show what became of this document and where it lies in the shards: SOURCE:ID, pmid:, pmcid:, doi: or note:.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Rows to show.
        #[arg(long, default_value_t = 3)]
        rows: u64,
        /// First row to show.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Show text of documents too; only for open sources.
        #[arg(long)]
        text: bool,
    },
    /// Train: continual pre-training, or instruction tuning. A started run is always resumed.
    Train {
        /// What to train.
        #[arg(value_enum)]
        what: TrainKind,
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Accepted for clarity: an interrupted run is resumed in any case.
        #[arg(long)]
        resume: bool,
    },
    /// Score the run's model on the recipe's tasks.
    Evaluate {
        #[command(flatten)]
        recipe: RecipeArguments,
    },
    /// Continue a prompt with a checkpoint.
    Generate {
        /// Folder with config.json and model.safetensors.
        checkpoint: PathBuf,
        /// The text to continue; may be empty.
        #[arg(long)]
        prompt: String,
        /// Take the most likely token each time; the default.
        #[arg(long, conflicts_with_all = ["temperature", "top_p"])]
        greedy: bool,
        /// Draw tokens at this temperature, above 0.
        #[arg(long, value_name = "X")]
        temperature: Option<f64>,
        /// Draw from the fewest most likely tokens that together have this share.
        #[arg(long, value_name = "SHARE")]
        top_p: Option<f64>,
        /// Seed of the draws: the same seed gives the same text.
        #[arg(long, default_value_t = 0, value_name = "N")]
        seed: u64,
        /// A text that ends the continuation and is not part of it; may be given several times.
        #[arg(long, value_name = "TEXT")]
        stop: Vec<String>,
        /// Tokens to generate at most.
        #[arg(long, default_value_t = 256, value_name = "N")]
        max_tokens: usize,
        /// Tokenizer file; by default the one in the checkpoint folder.
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
    },
    /// Convert foreign weights (llama2.c, Hugging Face) to a checkpoint folder.
    Import {
        /// A llama2.c .bin file, or a folder in the Hugging Face layout.
        source: PathBuf,
        /// Folder to write.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Tokenizer file to keep beside the weights.
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Element type to store; by default that of the source.
        #[arg(long, value_name = "TYPE")]
        dtype: Option<StoredType>,
    },
    /// Fold adapters (a PEFT folder) into the weights that they were trained on.
    Merge {
        /// Folder with config.json and the original weights; never a merged or quantized one.
        checkpoint: PathBuf,
        /// Folder with the configuration and the weights of adapters, as PEFT writes them.
        adapter: PathBuf,
        /// Folder to write.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Element type to store; by default that of the weights.
        #[arg(long, value_name = "TYPE")]
        dtype: Option<StoredType>,
    },
    /// Write a commented recipe to start from.
    Init {
        /// File to write; must not exist.
        #[arg(default_value = "recipe.toml")]
        file: PathBuf,
    },
    /// Check configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a shell completion script.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: Shell,
    },
    /// One process per rank on this node (not there yet).
    #[command(disable_help_flag = true)]
    Launch(NotYet),
    /// Remove what interrupted attempts left and no record names.
    Gc {
        #[command(flatten)]
        target: TargetArguments,
        /// Only what is older than so many hours; give more than the longest run takes.
        #[arg(long, value_name = "HOURS", default_value_t = 168)]
        older_than: u64,
        /// List it and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write published shards as the files of another trainer, with lineage beside them.
    Export(ExportArguments),
    /// Take documents out of published shards, refill their quota and record it.
    Retract {
        #[command(flatten)]
        target: TargetArguments,
        /// A document: SOURCE:ID, pmid:123, pmcid:PMC123, doi:10.1/x or note:ID; may be repeated. Each must be found.
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
        /// A list of ids, one a line, or PubMed XML (.xml, .xml.gz) whose marks of retraction and deletion count.
        #[arg(long, value_name = "FILE")]
        from: Vec<PathBuf>,
        /// Retract what stands for a document that was dropped as a duplicate, too.
        #[arg(long)]
        copies: bool,
    },
    /// Score recorded answers again (not there yet).
    #[command(disable_help_flag = true)]
    Rescore(NotYet),
    /// Serve a checkpoint over HTTP (not there yet).
    #[command(disable_help_flag = true)]
    Serve(NotYet),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Parse a recipe and check every key; touches nothing else.
    Check {
        /// The recipe.
        recipe: PathBuf,
    },
}

/// What weights are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredType {
    /// 4 bytes.
    F32,
    /// 2 bytes, the range of f32.
    Bf16,
    /// 2 bytes, a smaller range.
    F16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrainKind {
    /// Continual pre-training.
    Cpt,
    /// Instruction tuning.
    Instruct,
}

/// What is exported, and where to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArguments {
    /// The folder that a run wrote.
    #[arg(value_name = "WORKDIR")]
    pub(crate) workdir: String,
    /// megatron, mds, ds, llmc, olmo or litdata.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: String,
    /// Folder to write; it holds this export alone.
    #[arg(long, value_name = "URI")]
    pub(crate) to: String,
    /// Which shards: train, heldout (or validation) or instruct.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Tokens of an object at most, rounded down to whole windows.
    #[arg(long, value_name = "N", default_value_t = mellama_pipeline::export::OBJECT_TOKENS)]
    pub(crate) object_tokens: u64,
    /// mds: add the columns `loss_mask` and `segment_ids`; instruction shards always have them.
    #[arg(long)]
    pub(crate) segments: bool,
}

/// Takes whatever a coming command will take.
#[derive(Debug, Args)]
pub(crate) struct NotYet {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<String>,
}

/// Reads `7` or `0..64`.
fn tasks(text: &str) -> Result<Range<u64>, String> {
    let expected = || format!("\"{text}\": expected the number of a task from 0, such as 7, or FIRST..END, such as 0..64");
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain).ok_or_else(expected)
    };
    match text.split_once("..") {
        None => number(text).map(|task| task..task.saturating_add(1)),
        Some((first, end)) => Some(number(first)?..number(end)?).filter(|range| !range.is_empty()).ok_or_else(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_one_or_a_range() {
        let check = |text: &str, expected: Option<Range<u64>>| assert_eq!(tasks(text).ok(), expected, "{text}");
        check("7", Some(7..8));
        check("0..64", Some(0..64));
        check("64..65", Some(64..65));
        check("64..64", None);
        check("9..3", None);
        check("+1", None);
        check("-1", None);
        check("..3", None);
        check("1..", None);
        check("1..=3", None);
        check("", None);
        check("99999999999999999999", None);
    }
}
