//! A server with one bucket, and the program told of it.

use std::path::Path;
use std::process::Command;

use mellama_tests::s3_server::{KEY_ID, S3Server, SECRET};
use tempfile::TempDir;

use crate::project::{Ended, mellama};

/// A server with one bucket, and the program told of it.
pub(crate) struct Bucket {
    pub(crate) server: S3Server,
    folder: TempDir,
}

impl Bucket {
    pub(crate) fn new() -> Bucket {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = S3Server::start(folder.path()).expect("a free port");
        server.bucket("corpus").expect("a new folder");
        Bucket { server, folder }
    }

    /// The program, told of an endpoint and a secret.
    pub(crate) fn command(endpoint: &str, secret: &str) -> Command {
        let mut command = mellama();
        command.env("AWS_ENDPOINT_URL_S3", endpoint);
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", secret);
        command
    }

    pub(crate) fn run_as(&self, secret: &str, arguments: &[&str]) -> Ended {
        let mut command = Self::command(&self.server.endpoint(), secret);
        Ended::of(&command.args(arguments).output().expect("the program starts"))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as(SECRET, arguments)
    }

    pub(crate) fn succeed(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}\n{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// Where the server keeps an object.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("corpus").join(name)
    }
}

/// Everything below a folder, by name, but for the server's own files.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("readable") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("below it").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((name, std::fs::read(&path).expect("readable")));
            }
        }
    }
    found.sort();
    found
}
