//! What the end-to-end tests share: the program, recipes made from the quickstart, and what a child process said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The program, ready for arguments; it inherits no variable that would change what it does.
pub(crate) fn mellama() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mellama"));
    command.current_dir(root()).stdin(Stdio::null()).env_remove("RUST_LOG");
    // Nobody is asked for credentials but the environment that a test gives.
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        command.env_remove(variable);
    }
    command
}

/// How a child ended, with its output as text.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Ended {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The last line of standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last:?}\n{}", self.stderr))
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    Ended::of(&mellama().args(arguments).output().expect("the program starts"))
}

/// Runs the program and demands exit 0.
pub(crate) fn succeed(arguments: &[&str]) -> Ended {
    let ended = run(arguments);
    assert_eq!(ended.code, 0, "{arguments:?}\n{}\n{}", ended.stdout, ended.stderr);
    ended
}

/// A recipe of a test in a folder of its own, with the work folder beside it.
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// The quickstart over the fixtures, with fewer training steps: every stage runs, in a fraction of the time.
    pub(crate) fn quick() -> Project {
        let text = std::fs::read_to_string(root().join("recipes/quickstart.toml")).expect("the recipe is there");
        let fixtures = root().join("tests/fixtures").display().to_string();
        let text = text.replace("../tests/fixtures", &fixtures);
        Project::with_recipe(&shorten(&text))
    }

    /// Any recipe.
    pub(crate) fn with_recipe(text: &str) -> Project {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("recipe.toml"), text).expect("written");
        Project { folder }
    }

    /// The folder that recipe and inputs lie in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes an input file of a test.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
        std::fs::write(path, bytes).expect("written");
    }

    pub(crate) fn recipe(&self) -> String {
        self.folder().join("recipe.toml").display().to_string()
    }

    pub(crate) fn workdir(&self) -> String {
        self.folder().join("out").display().to_string()
    }

    /// `run RECIPE --workdir OUT` and further arguments.
    pub(crate) fn arguments<'a>(&self, more: &[&'a str]) -> Vec<String> {
        let mut all = vec!["run".to_owned(), self.recipe(), "--workdir".into(), self.workdir()];
        all.extend(more.iter().map(|a: &&'a str| (*a).to_owned()));
        all
    }

    pub(crate) fn run(&self, more: &[&str]) -> Ended {
        let arguments = self.arguments(more);
        run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs and demands exit 0.
    pub(crate) fn succeed(&self, more: &[&str]) -> Ended {
        let ended = self.run(more);
        assert_eq!(ended.code, 0, "{more:?}\n{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// A JSON object of the work folder.
    pub(crate) fn json(&self, key: &str) -> serde_json::Value {
        let path = Path::new(&self.workdir()).join(key);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).expect("JSON")
    }
}

/// Six steps of each training, with checkpoints between them.
fn shorten(recipe: &str) -> String {
    let line = |line: &str| match line.split('=').next().map(str::trim) {
        Some("epochs") => "steps = 6".to_owned(),
        Some("checkpoint_every") => "checkpoint_every = 2".to_owned(),
        _ => line.to_owned(),
    };
    recipe.lines().map(line).collect::<Vec<_>>().join("\n")
}
