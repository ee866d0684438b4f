//! `export`: published shards as the files of another trainer.

use mellama_pipeline::{Failure, export};

use super::{print_json, print_line, stores};
use crate::arguments::{ExportArguments, How};
use crate::progress::Progress;

pub(crate) fn run(how: &How, arguments: ExportArguments, progress: &Progress) -> Result<(), Failure> {
    let ExportArguments { workdir, format, to, split, object_tokens, segments } = arguments;
    let options = export::ExportOptions { workdir, format, to, split, object_tokens, segments };
    let exported = export::export(&stores(how, progress), &options, progress)?;
    if how.json { print_json(&exported) } else { print_line(&exported.text()) }
}
