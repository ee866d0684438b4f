//! One file a command; here only the dispatch and what several commands share.

mod completions;
mod config;
mod export;
mod gc;
mod generate;
mod import;
mod init;
mod inspect;
mod merge;
mod not_yet;
mod plan;
mod report;
mod retract;
mod run;
mod stage;
mod status;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};

use mellama_pipeline::inspect::View;
use mellama_pipeline::retract::Request;
use mellama_pipeline::{Access, Failure, RecipeFile, Resources, Session, Stage, Stores, check_recipe};
use serde::Serialize;

use crate::arguments::{Arguments, Command, ConfigCommand, How, RecipeArguments, TargetArguments, TrainKind};
use crate::progress::Progress;

/// Runs the command.
pub(crate) fn dispatch(arguments: Arguments, progress: &Progress) -> Result<(), Failure> {
    let how = arguments.how;
    match arguments.command {
        Command::Run { recipe, until } => run::run(&how, &recipe, until.as_deref(), progress),
        Command::Plan { recipe, stages } => plan::run(&how, &recipe, stages, progress),
        Command::Stage { name, recipe, task } => stage::run(&how, &name, &recipe, task, progress),
        Command::Status(target) => status::run(&how, &target, progress),
        Command::Verify(target) => verify::run(&how, &target, progress),
        Command::Report(target) => report::run(&how, &target, progress),
        Command::Inspect { object, id, rows, from, text } => match id {
            Some(id) => inspect::document(&how, &object, &id, progress),
            None => inspect::run(&how, &object, View { from, rows, text }, progress),
        },
        Command::Train { what, recipe, resume: _ } => {
            let stage = if what == TrainKind::Cpt { Stage::Cpt } else { Stage::Instruct };
            run::single(&how, &recipe, stage, progress)
        }
        Command::Evaluate { recipe } => run::single(&how, &recipe, Stage::Evaluate, progress),
        Command::Generate { checkpoint, prompt, greedy: _, temperature, top_p, seed, stop, max_tokens, tokenizer } => {
            let sampling = generate::sampling(temperature, top_p, seed);
            let tokenizer = tokenizer.as_deref();
            let request =
                generate::Request { checkpoint: &checkpoint, prompt: &prompt, max_tokens, sampling, stop: &stop, tokenizer };
            generate::run(&how, &request, progress)
        }
        Command::Import { source, to, tokenizer, dtype } => import::run(&how, &source, &to, tokenizer.as_deref(), dtype),
        Command::Merge { checkpoint, adapter, to, dtype } => merge::run(&how, &checkpoint, &adapter, &to, dtype),
        Command::Init { file } => init::run(&file),
        Command::Config { command: ConfigCommand::Check { recipe } } => config::check(&how, &recipe),
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(())
        }
        Command::Launch(rest) => not_yet::refuse("launch", &rest),
        Command::Gc { target, older_than, dry_run } => gc::run(&how, &target, older_than, dry_run, progress),
        Command::Export(arguments) => export::run(&how, arguments, progress),
        Command::Retract { target, id, from, copies } => {
            retract::run(&how, &target, &Request { ids: id, files: from, copies }, progress)
        }
        Command::Rescore(rest) => not_yet::refuse("rescore", &rest),
        Command::Serve(rest) => not_yet::refuse("serve", &rest),
    }
}

/// Opens a recipe for work.
fn session(how: &How, recipe: &RecipeArguments, progress: &Progress) -> Result<Session, Failure> {
    Session::open(&recipe.recipe, recipe.workdir.as_deref(), resources(how, progress), progress)
}

fn resources(how: &How, progress: &Progress) -> Resources {
    Resources {
        threads: how.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        memory_bytes: how.memory,
        scratch: scratch(how),
        interrupt: progress.interrupt(),
        new_version: how.new_version,
    }
}

fn scratch(how: &How) -> PathBuf {
    how.scratch.clone().unwrap_or_else(std::env::temp_dir)
}

/// How buckets are reached where there is no recipe that says more than the environment.
fn access(how: &How, progress: &Progress) -> Access {
    Access { scratch: scratch(how), interrupt: progress.interrupt() }
}

/// Stores of a command that takes no recipe.
fn stores(how: &How, progress: &Progress) -> Stores {
    Stores::new(access(how, progress).options(None))
}

/// The work folder of a recipe, or the folder itself, and what opens it. That of another recipe is refused.
fn place(how: &How, target: &TargetArguments, progress: &Progress) -> Result<(Stores, String), Failure> {
    let path = Path::new(&target.target);
    if path.is_file() || path.extension().is_some_and(|e| e == "toml") {
        let file = RecipeFile::read(path)?.connected(&access(how, progress));
        let uri = match &target.workdir {
            Some(uri) => uri.clone(),
            None => file.expand(&file.recipe.workdir)?,
        };
        let uri = if how.new_version { Session::version(&file, &uri)? } else { uri };
        check_recipe(&uri, &file)?;
        return Ok((file.stores().clone(), uri));
    }
    Ok((stores(how, progress), target.target.clone()))
}

/// Writes a result as one JSON line on standard output.
fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print_line(&serde_json::to_string(value).expect("results are plain data"))
}

/// Writes one line on standard output. A reader that has seen enough, such as `head`, is no failure.
fn print_line(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Storage(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
