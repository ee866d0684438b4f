//! A recipe opened for work: parsed, inputs frozen, work folder open.

use std::path::{Path, PathBuf};

use mellama_storage::{ProtocolError, VERSIONS_FOLDER, Workdir};

use crate::context::{Context, Resources};
use crate::failure::Failure;
use crate::location::Location;
use crate::observer::Observer;
use crate::plan::Plan;
use crate::recipe::{Access, RecipeFile};

/// Owns what a `Context` borrows.
#[derive(Debug)]
pub struct Session {
    /// The recipe.
    pub file: RecipeFile,
    /// Its inputs.
    pub plan: Plan,
    /// Where output goes.
    pub workdir: Workdir,
    /// How it may run.
    pub resources: Resources,
}

impl Session {
    /// Reads the recipe, lists its inputs and opens the work folder, which is created if need be.
    ///
    /// # Errors
    /// `Failure::Policy` for the recipe and missing inputs, `Failure::Storage` for the work folder.
    pub fn open(recipe: &Path, workdir: Option<&str>, resources: Resources, observer: &dyn Observer) -> Result<Session, Failure> {
        let access = Access { scratch: resources.scratch.clone(), interrupt: resources.interrupt.clone() };
        let mut file = RecipeFile::read(recipe)?.connected(&access);
        let uri = match workdir {
            Some(uri) => uri.to_owned(),
            None => file.expand(&file.recipe.workdir)?,
        };
        file.excluded = Some(Location::of(&uri).canonical());
        let plan = Plan::resolve(&file)?;
        plan.warnings.iter().for_each(|warning| observer.warn(warning));
        let mut workdir = Workdir::open(file.stores(), &uri)?;
        if resources.new_version && workdir.read_plan_id()?.is_some_and(|there| there != plan.id) {
            workdir = Workdir::open(file.stores(), &below(&uri, &plan))?;
        }
        Ok(Session { file, plan, workdir, resources })
    }

    /// The work folder that a recipe has with `--new-version`: `uri`, or `versions/PLAN` below it where another plan has that.
    ///
    /// # Errors
    /// As `open`.
    pub fn version(file: &RecipeFile, uri: &str) -> Result<String, Failure> {
        let mut file = file.clone();
        file.excluded = Some(Location::of(uri).canonical());
        let plan = Plan::resolve(&file)?;
        let there = match Workdir::open_existing(file.stores(), uri) {
            Ok(workdir) => workdir.read_plan_id()?,
            Err(ProtocolError::Store(error)) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(if there.is_some_and(|there| there != plan.id) { below(uri, &plan) } else { uri.to_owned() })
    }

    /// What the stages are given.
    pub fn context<'a>(&'a self, observer: &'a dyn Observer) -> Context<'a> {
        Context::new(&self.file, &self.plan, &self.workdir, &self.resources, observer)
    }

    /// The work folder as a path a person can type, where it is one.
    pub fn workdir_path(&self) -> PathBuf {
        let path = PathBuf::from(self.workdir.store().uri());
        let here = std::env::current_dir().ok();
        here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(path)
    }
}

/// The folder of a version: named by its plan, so that the same command finds it again.
fn below(uri: &str, plan: &Plan) -> String {
    format!("{}/{VERSIONS_FOLDER}{}", uri.trim_end_matches('/'), &plan.id[..16])
}
