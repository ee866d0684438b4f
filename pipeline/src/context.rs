//! What every stage works with: the recipe, its plan, the work folder, and the resources it may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use mellama_dedup::BenchmarkIndex;
use mellama_shards::Tokenizer;
use mellama_sources::Limits;
use mellama_storage::{Interrupt, StageManifest, TaskCommit, Workdir};

use crate::failure::Failure;
use crate::observer::Observer;
use crate::plan::Plan;
use crate::recipe::{CorpusRecipe, RecipeFile};
use crate::separators::Separators;
use crate::stage::Stage;
use crate::stages::ingest::KeptReaders;

/// How a run may use the machine; none of it changes a byte of the output.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Worker threads.
    pub threads: usize,
    /// Memory that buffers may take, in bytes.
    pub memory_bytes: u64,
    /// Folder for spill files.
    pub scratch: PathBuf,
    /// Asked while something is waited for that may take long.
    pub interrupt: Interrupt,
    /// Where another plan has the work folder, work in a folder of its own below it.
    pub new_version: bool,
}

impl Default for Resources {
    /// One thread, 1 GiB, the system's folder for temporary files.
    fn default() -> Self {
        Self {
            threads: 1,
            memory_bytes: 1 << 30,
            scratch: std::env::temp_dir(),
            interrupt: Interrupt::default(),
            new_version: false,
        }
    }
}

/// Everything a stage is given.
pub struct Context<'a> {
    /// The recipe with its place.
    pub file: &'a RecipeFile,
    /// The frozen inputs.
    pub plan: &'a Plan,
    /// Where output goes.
    pub workdir: &'a Workdir,
    /// What may be used.
    pub resources: &'a Resources,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// Loaded once, on first use.
    pub cache: Cache,
}

/// Small things that several tasks of one process share.
#[derive(Default)]
pub struct Cache {
    pub(crate) tokenizer: OnceLock<Arc<Tokenizer>>,
    pub(crate) benchmarks: OnceLock<Option<Arc<BenchmarkIndex>>>,
    /// Readers of objects of which this process may read further parts.
    pub(crate) readers: KeptReaders,
    /// Held while a text is encoded that needs much memory.
    pub(crate) long_text: Mutex<()>,
    /// Records that this process has read or written, none of which is ever replaced: each is read once.
    manifests: Mutex<BTreeMap<Stage, StageManifest>>,
    commits: Mutex<BTreeMap<(Stage, u64), TaskCommit>>,
}

/// Whether the manifest of a stage stays what it is: retractions replace objects of the later ones.
fn is_settled(stage: Stage) -> bool {
    stage < Stage::Publish
}

impl<'a> Context<'a> {
    /// A context with nothing loaded yet.
    pub fn new(
        file: &'a RecipeFile,
        plan: &'a Plan,
        workdir: &'a Workdir,
        resources: &'a Resources,
        observer: &'a dyn Observer,
    ) -> Context<'a> {
        Context { file, plan, workdir, resources, observer, cache: Cache::default() }
    }

    /// The corpus part; stages of the corpus run only where there is one.
    pub(crate) fn corpus(&self) -> &'a CorpusRecipe {
        self.file.recipe.corpus.as_ref().expect("corpus stages run only with [corpus]")
    }

    /// What readers accept: `[corpus.limits]`, or the defaults.
    pub(crate) fn limits(&self) -> Limits {
        self.file.recipe.corpus.as_ref().and_then(|corpus| corpus.limits.clone()).unwrap_or_default()
    }

    /// Name of a corpus source by its index.
    pub(crate) fn source_name(&self, source: usize) -> &'a str {
        &self.corpus().source[source].name
    }

    /// The manifest of an earlier stage with the objects that hold now: those of retractions in the place of what they replaced.
    ///
    /// # Errors
    /// `Failure::Policy` when that stage is not done.
    pub(crate) fn manifest(&self, stage: Stage) -> Result<StageManifest, Failure> {
        let found = match self.published(stage)? {
            Some(manifest) if !is_settled(stage) => Some(self.workdir.after_retractions(manifest)?),
            found => found,
        };
        let uri = self.workdir.store().uri();
        found.ok_or_else(|| {
            Failure::Policy(format!("{uri}: stage {stage} is not finished; run \"mellama stage {stage} RECIPE\" first"))
        })
    }

    /// The manifest that a stage ended with, whatever was retracted since; `None` where it has none.
    ///
    /// # Errors
    /// `Failure::Verification` for a damaged one, `Failure::Storage` for one that cannot be read.
    pub(crate) fn published(&self, stage: Stage) -> Result<Option<StageManifest>, Failure> {
        if let Some(manifest) = self.cache.manifests.lock().expect("no holder panics").get(&stage) {
            return Ok(Some(manifest.clone()));
        }
        let found = self.workdir.read_manifest(&self.plan.id, stage.name())?;
        Ok(found.inspect(|manifest| self.keep_manifest(stage, manifest)))
    }

    /// Remembers a manifest that is there.
    pub(crate) fn keep_manifest(&self, stage: Stage, manifest: &StageManifest) {
        self.cache.manifests.lock().expect("no holder panics").insert(stage, manifest.clone());
    }

    /// Commits of an earlier, finished stage in task order.
    ///
    /// # Errors
    /// As `manifest`.
    pub(crate) fn commits(&self, stage: Stage) -> Result<Vec<TaskCommit>, Failure> {
        let manifest = self.manifest(stage)?;
        (0..manifest.tasks).map(|task| self.commit(stage, task)).collect()
    }

    /// One commit of a finished stage.
    ///
    /// # Errors
    /// As `manifest`; `Failure::Verification` when a commit that the manifest lists is gone.
    pub(crate) fn commit(&self, stage: Stage, task: u64) -> Result<TaskCommit, Failure> {
        let uri = self.workdir.store().uri();
        let missing =
            || Failure::Verification(format!("{uri}: commit {task} of stage {stage} is missing; run \"mellama verify\""));
        self.committed(stage, task)?.ok_or_else(missing)
    }

    /// The commit of a task of any stage; `None` where it has none yet.
    ///
    /// # Errors
    /// As `published`.
    pub(crate) fn committed(&self, stage: Stage, task: u64) -> Result<Option<TaskCommit>, Failure> {
        if let Some(commit) = self.cache.commits.lock().expect("no holder panics").get(&(stage, task)) {
            return Ok(Some(commit.clone()));
        }
        let found = self.workdir.read_commit(&self.plan.id, stage.name(), task)?;
        Ok(found.inspect(|commit| self.keep(stage, commit)))
    }

    /// Remembers a commit that is there.
    pub(crate) fn keep(&self, stage: Stage, commit: &TaskCommit) {
        self.cache.commits.lock().expect("no holder panics").insert((stage, commit.task), commit.clone());
    }

    /// The recipe's tokenizer, loaded once.
    ///
    /// # Errors
    /// `Failure::Policy` when the file is not a usable tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Arc<Tokenizer>, Failure> {
        if let Some(tokenizer) = self.cache.tokenizer.get() {
            return Ok(Arc::clone(tokenizer));
        }
        let Some(file) = &self.plan.tokenizer else {
            return Err(Failure::Policy("corpus.tokenizer: none given; add [corpus.tokenizer] path".into()));
        };
        let tokenizer = Tokenizer::from_bytes(&file.name, &file.read()?).map_err(|e| Failure::Policy(e.to_string()))?;
        Ok(Arc::clone(self.cache.tokenizer.get_or_init(|| Arc::new(tokenizer))))
    }

    /// Begin and end token of every document.
    ///
    /// # Errors
    /// `Failure::Policy` when the recipe and its tokenizer do not agree.
    pub(crate) fn separators(&self) -> Result<Separators, Failure> {
        let recipe = self.corpus().tokenizer.as_ref().expect("a tokenizer is loaded only where the recipe has one");
        Separators::of(recipe, &*self.tokenizer()?)
    }

    /// Fails when a signal has asked to stop.
    ///
    /// # Errors
    /// `Failure::Stopped`.
    pub(crate) fn check_stop(&self) -> Result<(), Failure> {
        self.observer.stopped().map_or(Ok(()), |signal| Err(Failure::Stopped(signal)))
    }
}
