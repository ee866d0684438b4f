//! A run that is small and has every stage of a corpus, over any store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mellama_pipeline::{Failure, Resources, Session, Silent, runner};
use mellama_storage::{StageManifest, Store, TaskCommit, Workdir, list_all, sealed};
use tempfile::TempDir;

/// Inputs and a recipe in a folder.
pub(crate) struct SmallRun {
    folder: TempDir,
}

impl SmallRun {
    pub(crate) fn new() -> SmallRun {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer/tokenizer.json");
        let mut recipe = vec!["name = \"small\"\nseed = 7\nworkdir = \"out\"\n".to_owned()];
        for (source, domain) in [("papers", "biomedical"), ("notes", "clinical"), ("web", "general")] {
            let lines: Vec<String> = (0..6).map(|number| line(source, number)).collect();
            std::fs::write(folder.path().join(format!("{source}.jsonl")), lines.concat()).expect("written");
            recipe.push(format!(
                "[[corpus.source]]\nname = \"{source}\"\nformat = \"jsonl\"\ninputs = [\"{source}.jsonl\"]\ndomain = \"{domain}\"\n\
                 max_rejects = 0.5\n"
            ));
        }
        recipe.push(format!(
            "[corpus.dedup]\nbands = 1\nrows = 2\nmax_source_loss = 1.0\n[corpus.tokenizer]\npath = \"{}\"\n\
             [corpus.mixture]\ntokens = \"all\"\nbiomedical = 2\nclinical = 1\ngeneral = 1\n\
             [corpus.pack]\nsequence_length = 32\nheldout = 0.0\n",
            tokenizer.display()
        ));
        std::fs::write(folder.path().join("recipe.toml"), recipe.concat()).expect("written");
        SmallRun { folder }
    }

    /// Runs it over a store until nothing is to do.
    pub(crate) fn run(&self, store: Arc<dyn Store>) -> Result<(), Failure> {
        let resources = Resources { scratch: self.folder.path().to_owned(), ..Resources::default() };
        let unused = self.folder.path().join("unused").display().to_string();
        let mut session = Session::open(&self.folder.path().join("recipe.toml"), Some(&unused), resources, &Silent)?;
        session.workdir = Workdir::new(store);
        runner::run(&session.context(&Silent), None).map(|_| ())
    }
}

/// A record; one is broken, and one is a copy.
fn line(source: &str, number: usize) -> String {
    if number == 3 {
        return "{\"id\": broken\n".to_owned();
    }
    let words: Vec<String> = (0..40).map(|word| format!("{source}{}", (number % 5) * 7 + word)).collect();
    format!("{{\"id\":\"{number}\",\"text\":\"{}\"}}\n", words.join(" "))
}

/// What is published, by key: bytes of the data, and of the records everything but the attempt.
pub(crate) fn published(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    let content = |key: &str, bytes: Vec<u8>| match key.split('/').next() {
        Some("commits") => sealed::decode::<TaskCommit>(&bytes).expect("a whole commit").digest().into_bytes(),
        Some("manifests") => sealed::decode::<StageManifest>(&bytes).expect("a whole manifest").digest().into_bytes(),
        _ => bytes,
    };
    // What the preflight could not remove is no output; `gc` does it.
    let objects = list_all(store, "").map(|object| object.expect("a listing without faults").key);
    objects
        .filter(|key| !key.as_str().starts_with(".probe/"))
        .map(|key| {
            let bytes = store.read(&key, None, None).expect("an object that was listed");
            (key.to_string(), content(key.as_str(), bytes))
        })
        .collect()
}

/// That nothing is damaged, and nothing left that no record names.
pub(crate) fn is_whole(store: &Arc<dyn Store>) -> bool {
    Workdir::new(Arc::clone(store)).verify(&mut |_| {}).expect("a listing without faults").is_ok()
}
