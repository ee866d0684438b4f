//! Credentials are in no output, whatever happens: keys, a session token and others of the environment are marked, every kind of
//! failure of a store is forced, and everything that the program printed, wrote or left is searched.

use std::path::Path;
use std::process::{Command, Stdio};

use mellama_tests::s3_server::S3Server;
use mellama_tests::wire_proxy::{Mode, WireProxy};

use crate::project::{Ended, Project, mellama};
use crate::server::files;

/// Stands in every secret.
const MARK: &str = "QZSECRETQZ";
const KEY_ID: &str = "AKIAQZSECRETQZ000001";
const SECRET: &str = "QZSECRETQZ/wJalrXUtnFEMI";

/// The program with marked credentials and other secrets in its environment.
fn told(endpoint: &str, secret: &str, token: Option<&str>) -> Command {
    let mut command = mellama();
    command.env("AWS_ENDPOINT_URL_S3", endpoint).env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", secret);
    command.env("HF_TOKEN", "hf_QZSECRETQZ").env("OPENAI_API_KEY", "sk-QZSECRETQZ").env("RUST_BACKTRACE", "full");
    command.env("AWS_BEARER_TOKEN_BEDROCK", "Bearer QZSECRETQZ");
    if let Some(token) = token {
        command.env("AWS_SESSION_TOKEN", token);
    }
    command
}

fn assert_clean(what: &str, ended: &Ended) {
    for (stream, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        assert!(!text.contains(MARK), "{what}: {stream}: {text}");
    }
}

fn assert_clean_folder(what: &str, folder: &Path) {
    for (name, bytes) in files(folder) {
        assert!(!bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()), "{what}: {name}");
        assert!(!name.contains(MARK), "{what}: {name}");
    }
}

/// A server that knows the marked keys, behind a proxy.
struct Rig {
    folder: tempfile::TempDir,
    scratch: tempfile::TempDir,
    _server: S3Server,
    proxy: WireProxy,
    project: Project,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let server = S3Server::start_for(folder.path(), KEY_ID, SECRET).expect("a free port");
        server.bucket("corpus").expect("a new folder");
        let proxy = WireProxy::start(server.address()).expect("a free port");
        Rig { folder, scratch: tempfile::tempdir().expect("a folder"), _server: server, proxy, project: Project::quick() }
    }

    /// `run` over the proxy; the recipe gives a request two seconds.
    fn run(&self, secret: &str, token: Option<&str>, more: &[&str]) -> Ended {
        let mut command = told(&self.proxy.endpoint(), secret, token);
        let scratch = self.scratch.path().display().to_string();
        command.args(["run", &self.project.recipe(), "--workdir", "s3://corpus/run", "--scratch", &scratch]).args(more);
        Ended::of(&command.output().expect("the program starts"))
    }

    fn search(&self, what: &str, ended: &Ended) {
        assert_clean(what, ended);
        assert_clean_folder(what, self.folder.path());
        assert_clean_folder(what, self.scratch.path());
        assert_clean_folder(what, self.project.folder());
    }
}

#[test]
fn case_40_no_secret_is_in_any_output_whatever_fails() {
    let rig = Rig::new();
    let text = std::fs::read_to_string(rig.project.recipe()).expect("readable");
    let short = "[storage]\nattempt_seconds = 1\ndeadline_seconds = 2\n";
    std::fs::write(rig.project.recipe(), format!("{text}\n{short}")).expect("written");
    // With the exit codes that there may be: a server that never answered is a matter of its address, and a HEAD gives no reason.
    let modes = [
        ("500", Mode::Before(500, "InternalError"), [75, 75]),
        ("403", Mode::Before(403, "AccessDenied"), [4, 4]),
        ("signature", Mode::Before(403, "SignatureDoesNotMatch"), [4, 4]),
        ("expired", Mode::Before(400, "ExpiredToken"), [4, 4]),
        ("clock", Mode::Before(403, "RequestTimeTooSkewed"), [4, 4]),
        ("no bucket", Mode::Before(404, "NoSuchBucket"), [4, 4]),
        ("redirect", Mode::Before(301, "PermanentRedirect"), [2, 4]),
        ("slow down", Mode::Before(503, "SlowDown"), [75, 75]),
        ("malformed", Mode::Before(400, "AuthorizationHeaderMalformed"), [2, 4]),
        ("dropped", Mode::AfterDrop, [4, 75]),
        ("silent", Mode::Silent, [4, 75]),
    ];
    for (what, mode, codes) in modes {
        for (answered, format) in [(0, "text"), (20, "json")] {
            rig.proxy.follow(move |seen| if seen.number > answered { mode } else { Mode::Through });
            let ended = rig.run(SECRET, None, &["--log-format", format, "--until", "ingest"]);
            assert!(codes.contains(&ended.code), "{what} after {answered}: exit {}: {}", ended.code, ended.stderr);
            rig.search(what, &ended);
        }
    }
    rig.proxy.follow(|_| Mode::Through);
    let wrong = rig.run("QZSECRETQZ-wrong", Some("QZSECRETQZ-token"), &[]);
    assert_eq!(wrong.code, 4, "{}", wrong.stderr);
    rig.search("a wrong secret", &wrong);
    let whole = rig.run(SECRET, None, &["--log-format", "json", "--json"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    rig.search("a whole run", &whole);
}

#[test]
fn case_40_no_secret_is_in_what_other_commands_print() {
    let rig = Rig::new();
    let whole = rig.run(SECRET, None, &["--until", "publish"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let recipe = rig.project.recipe();
    let uri = "s3://corpus/run";
    let commands: [&[&str]; 7] = [
        &["plan", &recipe, "--workdir", uri, "--json"],
        &["config", "check", &recipe],
        &["status", uri, "--json"],
        &["verify", uri, "--json"],
        &["gc", uri, "--dry-run", "--json"],
        &["stage", "publish", &recipe, "--workdir", uri],
        &["run", &recipe, "--workdir", uri, "--until", "publish", "--json"],
    ];
    for arguments in commands {
        let mut command = told(&rig.proxy.endpoint(), SECRET, None);
        let ended = Ended::of(&command.args(arguments).output().expect("the program starts"));
        assert!([0, 99].contains(&ended.code), "{arguments:?}: {}", ended.stderr);
        rig.search(arguments[0], &ended);
    }
}

#[test]
fn case_40_secrets_in_addresses_are_not_repeated() {
    let project = |line: &str| {
        Project::with_recipe(&format!(
            "name = \"t\"\nworkdir = \"out\"\n{line}\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\n\
             inputs = [\"INPUT\"]\ndomain = \"general\"\n"
        ))
    };
    let endpoints =
        ["https://user:QZSECRETQZ@host", "http://169.254.169.254/QZSECRETQZ", "https://host/?X-Amz-Signature=QZSECRETQZ"];
    for endpoint in endpoints {
        let project = project(&format!("[storage]\nendpoint = \"{endpoint}\""));
        let ended = project.run(&[]);
        assert_eq!(ended.code, 2, "{endpoint}: {}", ended.stderr);
        assert_clean(endpoint, &ended);
        let mut command = told(endpoint, SECRET, None);
        command.args(["run", &project.recipe(), "--workdir", "s3://corpus/run"]);
        assert_clean(endpoint, &Ended::of(&command.output().expect("the program starts")));
    }
    for input in ["https://bucket.s3.amazonaws.com/a.jsonl?X-Amz-Credential=AKIAQZSECRETQZ000001&X-Amz-Signature=QZSECRETQZ"] {
        let project = project("");
        let text = std::fs::read_to_string(project.recipe()).expect("readable");
        std::fs::write(project.recipe(), text.replace("INPUT", input)).expect("written");
        let workdirs = [
            &["plan", "--stages", "--workdir", input][..],
            &["plan", "--json", "--workdir", input],
            &["run", "--workdir", input],
        ];
        for command in workdirs {
            let ended = Ended::of(
                &told("http://127.0.0.1:1", SECRET, None)
                    .args(command)
                    .arg("recipes/quickstart.toml")
                    .output()
                    .expect("the program starts"),
            );
            assert_eq!(ended.code, 2, "{}", ended.stderr);
            assert_clean("a work folder", &ended);
        }
        for command in [&["run"][..], &["plan"], &["config", "check"]] {
            let mut arguments: Vec<&str> = command.to_vec();
            let recipe = project.recipe();
            arguments.push(&recipe);
            let ended =
                Ended::of(&told("http://127.0.0.1:1", SECRET, None).args(arguments).output().expect("the program starts"));
            assert_clean(input, &ended);
        }
    }
}

#[test]
fn case_40_no_secret_is_among_the_arguments_of_a_process() {
    let rig = Rig::new();
    rig.proxy.follow(|seen| if seen.number > 10 { Mode::Silent } else { Mode::Through });
    let mut command = told(&rig.proxy.endpoint(), SECRET, None);
    command.args(["run", &rig.project.recipe(), "--workdir", "s3://corpus/run"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    while rig.proxy.struck() == 0 {
        assert!(child.try_wait().expect("a child").is_none(), "it waits for an answer");
        std::thread::yield_now();
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("a living process");
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert!(!arguments.is_empty() && !String::from_utf8_lossy(&arguments).contains(MARK));
}
