//! A recipe opened for work: parsed, inputs frozen, work folder open.

use std::path::{Path, PathBuf};

use mellama_storage::Workdir;

use crate::context::{Context, Resources};
use crate::failure::Failure;
use crate::observer::Observer;
use crate::plan::Plan;
use crate::recipe::RecipeFile;

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
        let mut file = RecipeFile::read(recipe)?;
        let uri = match workdir {
            Some(uri) => uri.to_owned(),
            None => file.expand(&file.recipe.workdir)?,
        };
        file.excluded = std::path::absolute(&uri).map(|path| path.canonicalize().unwrap_or(path)).ok();
        let plan = Plan::resolve(&file)?;
        plan.warnings.iter().for_each(|warning| observer.warn(warning));
        let workdir = Workdir::open(&uri)?;
        Ok(Session { file, plan, workdir, resources })
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
