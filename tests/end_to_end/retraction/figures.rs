//! What card, report and program say of the shards after retractions, and of models that were trained before them.

use super::*;

fn text(project: &Project, name: &str) -> String {
    std::fs::read_to_string(Path::new(&project.workdir()).join(name)).expect("there")
}

/// A row of a table of the card, as its cells.
fn row(card: &str, section: &str, first: &str) -> Vec<String> {
    let of_section = card.split(&format!("## {section}\n")).nth(1).expect("a section");
    let of_section = of_section.split("\n## ").next().expect("text");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    of_section.lines().map(cells).find(|cells| cells[0] == first).unwrap_or_else(|| panic!("no {first} in {of_section}"))
}

fn numbers(cells: &[String]) -> Vec<u64> {
    cells[1..].iter().map(|cell| cell.parse().expect("a number")).collect()
}

fn segments(project: &Project, prefix: &str) -> u64 {
    let keys = files(project);
    let of_shard = |key: &String| -> u64 {
        let path = Path::new(&project.workdir()).join(key).display().to_string();
        let shown = succeed(&["inspect", &path, "--rows", "512"]).stdout;
        shown.lines().filter(|line| line.contains(" document ")).count() as u64
    };
    keys.range(prefix.to_owned()..).map(|(key, _)| key).take_while(|key| key.starts_with(prefix)).map(of_shard).sum()
}

#[test]
fn card_report_and_summary_say_what_is_in_the_shards_now() {
    let mixture = format!("[corpus.mixture]\ntokens = \"all\"\ngeneral = 1\n{PACK}");
    let project = small_project(&small(&[("a", ""), ("b", "")], &mixture), &[("a", 20), ("b", 20)]);
    project.succeed(&[]);
    let published = totals(&project, "shards/cpt/train-");
    let tokens = |totals: &BTreeMap<String, u64>| totals["a"] + totals["b"];
    assert!(text(&project, "README.md").contains(&format!("Packed token shards, {} tokens for training", tokens(&published))));
    // Everything is used already, so what goes leaves padding; the second time on top of the first.
    for (number, id) in ["a:a3", "b:b4", "b:b5"].iter().enumerate() {
        retracted(&project, &["--id", id]);
        let now = totals(&project, "shards/cpt/train-");
        let card = text(&project, "README.md");
        assert!(card.contains(&format!("Packed token shards, {} tokens for training", tokens(&now))), "{card}");
        let expected = [now["sequences"], tokens(&now), now["padding"], segments(&project, "shards/cpt/train-")];
        assert_eq!(numbers(&row(&card, "Counts", "**training**")), expected);
        let changed = &row(&card, "Retractions", "**training**");
        assert_eq!(numbers(changed), [published["sequences"], now["sequences"], tokens(&published), tokens(&now)]);
        for source in ["a", "b"] {
            let expected = [published[source], published[source] - now[source], 0, now[source]];
            assert_eq!(numbers(&row(&card, "Retractions", source)), expected, "{source}");
        }
        assert_eq!(card.matches("## Retractions").count(), 1);
        assert_eq!(card.matches("`retractions/").count(), number + 2, "a row each and the sentence: {card}");
        let report = text(&project, "report.html");
        assert_eq!(report.matches("<h2>Retractions</h2>").count(), 1);
        assert!(report.contains(&format!("retractions/{number:05}.json")), "{report}");
        assert!(
            report.contains(&format!("<td>{}</td>", now["a"])) && report.contains(&format!("<td>{}</td>", now["padding"])),
            "{report}"
        );
        let said = project.succeed(&[]);
        let line = format!(
            "retracted since: {} document{}; {} sequences, {} tokens for training now",
            number + 1,
            if number == 0 { "" } else { "s" },
            now["sequences"],
            tokens(&now)
        );
        assert!(said.stdout.contains(&line), "{line}: {}", said.stdout);
        verify(&project);
    }
}

#[test]
fn refilled_shards_are_counted_to_the_segment() {
    let mixture = format!("[corpus.mixture]\ntokens = 900\ngeneral = 1\n{PACK}");
    let project = small_project(&small(&[("a", ""), ("b", "max_epochs = 2")], &mixture), &[("a", 30), ("b", 30)]);
    project.succeed(&["--until", "publish"]);
    for source in ["a", "b", "a"] {
        let id = first(&project, source);
        retracted(&project, &["--id", &id]);
        let now = totals(&project, "shards/cpt/train-");
        let expected = [now["sequences"], now["a"] + now["b"], now["padding"], segments(&project, "shards/cpt/train-")];
        let card = text(&project, "README.md");
        assert_eq!(numbers(&row(&card, "Counts", "**training**")), expected);
        assert_eq!(numbers(&row(&card, "Retractions", "a"))[3], now["a"]);
        assert_eq!(numbers(&row(&card, "Retractions", "b"))[3], now["b"]);
    }
}

#[test]
fn with_whole_sequences_the_card_counts_what_is_published_and_holes_take_what_was_left_out() {
    let mixture = format!("[corpus.mixture]\ntokens = \"all\"\nunit = \"sequences\"\ngeneral = 1\n{PACK}");
    let project = small_project(&small(&[("a", "")], &mixture), &[("a", 40)]);
    project.succeed(&["--until", "publish"]);
    let published = totals(&project, "shards/cpt/train-");
    let share = project.json("manifests/mix.json")["facts"]["sources"][0].clone();
    let of_mix = |what: &str| share[what].as_u64().expect("a number");
    let left_out = of_mix("quota") - published["a"];
    assert!(left_out > 100, "{left_out} tokens are left out, too few to show anything");
    let card = text(&project, "README.md");
    let expected = [published["sequences"], published["a"], published["padding"], segments(&project, "shards/cpt/train-")];
    assert_eq!(numbers(&row(&card, "Counts", "**training**")), expected);
    assert!(
        card.contains(&format!("{left_out} tokens of the others are left out")) && !card.contains("nothing is left out"),
        "{card}"
    );
    assert_eq!(row(&card, "Sources", "a")[9], published["a"].to_string());
    assert!(card.contains(&format!("Packed token shards, {} tokens", published["a"])), "{card}");
    // Documents of which pieces in the middle were left out have them to give; not a token of the supply stays behind.
    let mut room = of_mix("supply") - published["a"];
    for number in 0..40 {
        let id = format!("a:a{number}");
        let traced = trace(&project, &id)["documents"][0].clone();
        let tokens = traced["runs"]["tokens"].as_u64().expect("tokens");
        let placed: u64 = (traced["placements"].as_array().expect("placements").iter())
            .map(|place| place["tokens"][1].as_u64().expect("a number") - place["tokens"][0].as_u64().expect("a number"))
            .sum();
        room -= tokens - placed;
        let outcome = retracted(&project, &["--id", &id]);
        let train = &outcome["parts"]["train"];
        let refilled = train["refilled"].as_u64().unwrap_or(0);
        assert_eq!(refilled, placed.min(room), "{id}: {train}");
        room -= refilled;
        verify(&project);
        if room == 0 {
            return;
        }
    }
    panic!("{room} tokens of the supply were not used");
}

#[test]
fn models_of_other_shards_are_told() {
    let train =
        "[model]\nshape = \"tiny\"\n[train]\nsteps = 4\nbatch_sequences = 2\nmicro_batch_sequences = 2\ncheckpoint_every = 2\n";
    let mixture = format!("[corpus.mixture]\ntokens = 900\ngeneral = 1\n{PACK}{train}");
    let project = small_project(&small(&[("a", "")], &mixture), &[("a", 60)]);
    project.succeed(&["--until", "publish"]);
    retracted(&project, &["--id", &first(&project, "a")]);
    project.succeed(&[]);
    let told = |said: &str| {
        let status = succeed(&["status", &project.workdir()]).stdout;
        let verified = succeed(&["verify", &project.workdir()]).stdout;
        let report = text(&project, "report.html");
        for (who, text) in [("status", status), ("verify", verified), ("report", report)] {
            assert!(said.is_empty() != text.contains("trained on the shards as they were before"), "{who}: {text}");
        }
        let found = succeed(&["status", &project.workdir(), "--json"]).json()["trained_before"].clone();
        let found = found.as_array().expect("a list").iter().map(|one| one["before"].as_str().expect("a record").to_owned());
        let expected: &[&str] = if said.is_empty() { &[] } else { &[said; 2] };
        assert_eq!(found.collect::<Vec<_>>(), expected);
    };
    told("");
    // Checkpoints that no record lists, as when they come to be while the retraction is written.
    let (checkpoints, aside) = (Path::new(&project.workdir()).join("checkpoints"), project.folder().join("aside"));
    std::fs::rename(&checkpoints, &aside).expect("moved");
    let outcome = retracted(&project, &["--id", &first(&project, "a")]);
    assert_eq!(outcome["checkpoints"], serde_json::json!([]));
    std::fs::rename(&aside, &checkpoints).expect("moved back");
    let status = succeed(&["status", &project.workdir(), "--json"]).json();
    let of_status = status["trained_before"].as_array().expect("a list");
    assert!(of_status.len() == 2 && of_status.iter().all(|one| one["before"] == "retractions/00001.json"), "{of_status:?}");
    retracted(&project, &["--id", &first(&project, "a")]);
    told("retractions/00001.json");
    // The model itself is as it was.
    project.succeed(&[]);
}

#[test]
fn a_model_tuned_from_one_of_other_shards_is_told() {
    let train =
        "[model]\nshape = \"tiny\"\n[train]\nsteps = 2\nbatch_sequences = 2\nmicro_batch_sequences = 2\ncheckpoint_every = 2\n";
    let instruct = "[[instruct.source]]\nname = \"talk\"\ninputs = [\"data/talk.jsonl\"]\n[instruct]\nsequence_length = 64\n\
                    epochs = 1\nbatch_sequences = 2\nmicro_batch_sequences = 2\n";
    let mixture = format!("[corpus.mixture]\ntokens = 900\ngeneral = 1\n{PACK}{train}{instruct}");
    let project = small_project(&small(&[("a", "")], &mixture), &[("a", 60)]);
    let turns = |n: u64| format!("{{\"id\":\"t{n}\",\"instruction\":\"Say {n}.\",\"output\":\"It is {n}.\"}}\n");
    project.write("data/talk.jsonl", (0..8).map(turns).collect::<String>().as_bytes());
    project.succeed(&["--until", "cpt"]);
    retracted(&project, &["--id", &first(&project, "a")]);
    project.succeed(&[]);
    let check = || {
        let status = succeed(&["status", &project.workdir(), "--json"]).json();
        let models = status["trained_before"].as_array().expect("a list");
        assert!(models.iter().all(|model| model["before"] == "retractions/00000.json"), "{models:?}");
        let tuned = |model: &Value| model["checkpoint"].as_str().expect("a folder").starts_with("checkpoints/instruct/");
        let (tuned, trained): (Vec<_>, Vec<_>) = models.iter().partition(|model| tuned(model));
        assert!(!tuned.is_empty() && !trained.is_empty(), "{models:?}");
        assert!(trained.iter().all(|model| model["base"].is_null()), "{models:?}");
        assert!(tuned.iter().all(|model| model["base"] == trained[trained.len() - 1]["checkpoint"]), "{models:?}");
        let told = succeed(&["verify", &project.workdir()]).stdout;
        assert!(told.contains(": tuned from checkpoints/cpt/"), "{told}");
    };
    check();
    // Of its own data something goes later: what it was tuned from lost something before.
    retracted(&project, &["--id", "talk:t3"]);
    check();
}

/// People edit dataset cards, and lose them: neither may keep a document in the corpus.
#[test]
fn an_edited_or_missing_card_does_not_stand_in_the_way() {
    for body in [Some("A card of our own.\n"), None] {
        let mixture = format!("[corpus.mixture]\ntokens = \"all\"\ngeneral = 1\n{PACK}");
        let project = small_project(&small(&[("a", "")], &mixture), &[("a", 20)]);
        project.succeed(&["--until", "publish"]);
        let card = Path::new(&project.workdir()).join("README.md");
        match body {
            Some(body) => std::fs::write(&card, body).expect("written"),
            None => std::fs::remove_file(&card).expect("removed"),
        }
        let ended = retract(&project, &["--id", "a:a3"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stderr.contains("README.md: not as it was published"), "{}", ended.stderr);
        assert_eq!(std::fs::read_to_string(&card).ok().as_deref(), body);
        assert!(!trace(&project, "a:a3")["documents"][0]["retracted"].is_null());
        let ended = run(&["verify", &project.workdir()]);
        assert!(ended.code == 5 && ended.stderr.contains("README.md"), "{}", ended.stderr);
        assert!(!ended.stdout.contains("no record names it"), "{}", ended.stdout);
    }
}
