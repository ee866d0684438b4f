//! Models that others wrote: imported, merged with adapters of PEFT, and refused.

use std::path::{Path, PathBuf};

use crate::commands::refuse;
use crate::project::{Project, run, succeed};

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/models").join(name).display().to_string()
}

fn path(folder: &tempfile::TempDir, name: &str) -> (PathBuf, String) {
    let path = folder.path().join(name);
    (path.clone(), path.display().to_string())
}

#[test]
fn adapters_are_merged_and_the_difference_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (merged, to) = path(&folder, "merged");
    let told = succeed(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &to, "--json"]).json();
    assert_eq!((told["dtype"].as_str(), told["sensitivity"].as_str()), (Some("F32"), Some("open")));
    let figure = |key: &str| told[key].as_f64().expect("a number");
    assert!(figure("max_change") > 0.1, "{told}");
    // Merged and apart sum the same numbers in another order, in f32.
    assert!(figure("max_logit_difference") < 1e-4 && figure("mean_divergence") < 1e-8, "{told}");
    assert!(merged.join("config.json").is_file() && merged.join("model.safetensors").is_file());
    refuse(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &to], 2, &["holds a checkpoint already"]);
    // What a run that died left behind is finished by the same command; what somebody else put there is not touched.
    let weights = std::fs::read(merged.join("model.safetensors")).expect("weights");
    for file in ["config.json", "model.safetensors"] {
        std::fs::remove_file(merged.join(file)).expect("a file");
    }
    succeed(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &to]);
    assert_eq!(std::fs::read(merged.join("model.safetensors")).expect("weights"), weights);
    let (other, taken) = path(&folder, "taken");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("README.md"), "# Somebody else's\n").expect("a card");
    refuse(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &taken], 2, &["holds another README.md already"]);
    assert!(!other.join("config.json").exists());
    let (_, rounded) = path(&folder, "rounded");
    let told =
        succeed(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &rounded, "--dtype", "bf16", "--json"]).json();
    assert_eq!(told["dtype"].as_str(), Some("BF16"));
    assert!(told["max_logit_difference"].as_f64().expect("a number") > 1e-4, "rounding shows: {told}");
}

#[test]
fn weights_keep_the_sensitivity_of_what_they_are_made_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (merged, to) = path(&folder, "merged");
    succeed(&["merge", &fixture("llama-2"), &fixture("adapters"), "--to", &to]);
    let card = std::fs::read_to_string(merged.join("README.md")).expect("a model card");
    assert!(card.contains("\nsensitivity: open\n"), "{card}");
    // As if the base had been trained on notes: what is made from it says so too, as often as it is copied.
    std::fs::write(merged.join("README.md"), card.replace("sensitivity: open", "sensitivity: dua")).expect("a card");
    let (_, copy) = path(&folder, "copy");
    assert_eq!(succeed(&["import", &to, "--to", &copy, "--json"]).json()["sensitivity"].as_str(), Some("dua"));
    let (_, again) = path(&folder, "again");
    let told = succeed(&["merge", &copy, &fixture("adapters"), "--to", &again, "--json"]).json();
    assert_eq!(told["sensitivity"].as_str(), Some("dua"));
}

#[test]
fn adapters_of_another_model_and_folders_without_any_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, to) = path(&folder, "merged");
    refuse(&["merge", &fixture("mistral"), &fixture("llama-2"), "--to", &to], 2, &["adapter_config.json"]);
    // Two key-value heads instead of four: the adapter on v has another shape.
    refuse(&["merge", &fixture("mistral"), &fixture("adapters"), "--to", &to], 2, &["v_proj.lora_B.weight", "shape"]);
    assert!(!folder.path().join("merged/config.json").exists());
}

#[test]
fn imported_weights_keep_their_type_or_take_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, model_type) in [("llama-2", "llama"), ("llama-3", "llama"), ("mistral", "mistral")] {
        let (rounded, to) = path(&folder, &format!("{name}-bf16"));
        succeed(&["import", &fixture(name), "--to", &to, "--dtype", "bf16"]);
        let config = std::fs::read_to_string(rounded.join("config.json")).expect("a configuration");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!((config["dtype"].as_str(), config["model_type"].as_str()), (Some("bfloat16"), Some(model_type)));
        let (again, to) = path(&folder, &format!("{name}-again"));
        succeed(&["import", &rounded.display().to_string(), "--to", &to]);
        let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).expect("weights");
        assert_eq!(weights(&rounded), weights(&again), "{name}");
    }
}

/// The one file of a folder whose name begins so.
fn named(folder: &Path, start: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let found: Vec<PathBuf> =
        files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    found[0].clone()
}

/// The quickstart's first part, on weights that lie in a folder.
fn from_checkpoint(folder: &Path) -> Project {
    let quick = Project::quick();
    let text = std::fs::read_to_string(quick.recipe()).expect("a recipe");
    let end = text.find("[[instruct.source]]").expect("a part on instructions");
    Project::with_recipe(&text[..end].replace("shape = \"tiny\"", &format!("checkpoint = {:?}", folder.display().to_string())))
}

#[test]
fn a_run_tells_its_speed_and_its_checkpoints_say_where_they_come_from() {
    let project = Project::quick();
    project.succeed(&["--until", "instruct"]);
    let workdir = PathBuf::from(project.workdir());
    for kind in ["cpt", "instruct"] {
        let lines = std::fs::read_to_string(named(&workdir.join("metrics"), &format!("{kind}-00000004.timed-"))).expect("speeds");
        let steps: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(steps.iter().map(|step| step["step"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(3)], "{kind}");
        for step in &steps {
            let number = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("{key}: {step}"));
            assert!(number("loss") > 0.0 && number("gradient_norm") > 0.0 && number("learning_rate") > 0.0, "{step}");
            assert!(number("tokens_per_second") > 1.0 && number("memory_bytes") > 1e6, "{step}");
            assert!((0.0..1.5).contains(&number("mfu_palm")) && number("mfu_6n") > 0.0, "{step}");
            assert!(
                number("data_wait_seconds") < number("seconds") && number("save_wait_seconds") <= number("seconds"),
                "{step}"
            );
            assert_eq!(step["domains"].as_object().map(serde_json::Map::is_empty), Some(kind == "instruct"), "{step}");
        }
        let events = named(&workdir.join("metrics/tensorboard").join(kind), "events.out.tfevents.0000000004.mellama-");
        let events = std::fs::read(events).expect("events");
        assert!(events.windows(13).any(|part| part == b"brain.Event:2") && events.windows(10).any(|part| part == b"train/loss"));
        let card = std::fs::read_to_string(workdir.join(format!("checkpoints/{kind}/step-00000006/README.md"))).expect("a card");
        assert!(
            card.starts_with("---\nlibrary_name:") && card.contains("\nsensitivity: dua\n") && card.contains("## Lineage"),
            "{card}"
        );
    }
    let merged = std::fs::read_to_string(workdir.join("checkpoints/instruct/step-00000006/merged/README.md")).expect("a card");
    assert!(merged.contains("\nsensitivity: dua\n") && merged.contains("library_name: transformers"), "{merged}");
    // A copy in another type keeps tokenizer and lineage.
    let trained = workdir.join("checkpoints/cpt/step-00000006");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (copy, to) = path(&folder, "copy");
    let told = succeed(&["import", &trained.display().to_string(), "--to", &to, "--dtype", "bf16", "--json"]).json();
    assert_eq!((told["tokenizer"].as_str(), told["sensitivity"].as_str()), (Some("tokenizer.json"), Some("dua")), "{told}");
    for name in ["README.md", "tokenizer.json", "tokenizer_config.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).expect("a file");
        assert!(read(&copy).starts_with(&read(&trained)), "{name}");
    }
    let card = std::fs::read_to_string(copy.join("README.md")).expect("a card");
    assert!(card.ends_with(&format!("weights {}, stored as BF16.\n", told["digest"].as_str().expect("a digest"))), "{card}");
    assert!(succeed(&["inspect", &to]).stdout.contains(told["digest"].as_str().expect("a digest")));
    for folder in [to.clone(), trained.display().to_string()] {
        refuse(&["verify", &folder], 2, &["a folder with weights", "b3sum --check"]);
    }
    let adapters = workdir.join("checkpoints/instruct/step-00000006").display().to_string();
    refuse(&["generate", &adapters, "--prompt", "a"], 2, &["adapters alone", "merged/"]);
    let card = std::fs::read_to_string(Path::new(&adapters).join("README.md")).expect("a card");
    assert!(card.contains("library_name: peft"), "{card}");
    let verified = run(&["verify", &project.workdir(), "--json"]).json();
    assert!(
        verified["unnamed"]
            .as_array()
            .is_some_and(|names| names.iter().all(|name| { !name.as_str().is_some_and(|name| name.starts_with("metrics/")) })),
        "{verified}"
    );
    let gone = run(&["gc", &project.workdir(), "--older-than", "0"]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    named(&workdir.join("metrics"), "cpt-00000004.timed-");
}

#[test]
fn a_checkpoint_with_another_tokenizer_or_too_few_positions_is_refused_before_any_work() {
    let first = Project::quick();
    first.succeed(&["--until", "cpt"]);
    let trained = PathBuf::from(first.workdir()).join("checkpoints/cpt/step-00000006");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("model");
    std::fs::create_dir(&copy).expect("a folder");
    for entry in std::fs::read_dir(&trained).expect("a checkpoint") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
    }
    let refused = |said: &[&str]| {
        let ended = from_checkpoint(&copy).run(&[]);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(said.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
    };
    let change = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(copy.join(name)).expect("text");
        assert!(text.contains(from), "{name}: no {from}");
        std::fs::write(copy.join(name), text.replacen(from, to, 1)).expect("written");
        text
    };
    let tokenizer = std::fs::read_to_string(copy.join("tokenizer.json")).expect("a tokenizer");
    let mut other: serde_json::Value = serde_json::from_str(&tokenizer).expect("JSON");
    let swapped = other["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let last: Vec<String> = {
        let mut ids: Vec<(&String, u64)> = swapped.iter().map(|(piece, id)| (piece, id.as_u64().expect("an id"))).collect();
        ids.sort_by_key(|(_, id)| *id);
        ids.iter().rev().take(2).map(|(piece, _)| (*piece).clone()).collect()
    };
    let (a, b) = (swapped[&last[0]].clone(), swapped[&last[1]].clone());
    swapped.insert(last[0].clone(), b);
    swapped.insert(last[1].clone(), a);
    std::fs::write(copy.join("tokenizer.json"), other.to_string()).expect("written");
    refused(&["tokenizer is not the recipe's", "stands for other bytes", "corpus.tokenizer.path"]);
    let mut other: serde_json::Value = serde_json::from_str(&tokenizer).expect("JSON");
    other["model"]["merges"].as_array_mut().expect("merges").reverse();
    std::fs::write(copy.join("tokenizer.json"), other.to_string()).expect("written");
    refused(&["tokenizer is not the recipe's", "gives other ids"]);
    // The same vocabulary in another file is the same tokenizer.
    let same: serde_json::Value = serde_json::from_str(&tokenizer).expect("JSON");
    std::fs::write(copy.join("tokenizer.json"), same.to_string()).expect("written");
    let positions = std::fs::read_to_string(copy.join("config.json")).expect("a configuration");
    let positions: serde_json::Value = serde_json::from_str(&positions).expect("JSON");
    let named = format!("\"max_position_embeddings\": {}", positions["max_position_embeddings"]);
    change("config.json", &named, "\"max_position_embeddings\": 16");
    refused(&["knows 16 positions", "sequence_length"]);
    change("config.json", "\"max_position_embeddings\": 16", &named);
    from_checkpoint(&copy).succeed(&["--until", "ingest"]);
}

#[test]
fn a_flipped_bit_of_weights_is_found_wherever_they_are_loaded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, to) = path(&folder, "model");
    succeed(&["import", &fixture("llama-2"), "--to", &to]);
    let (_, merged) = path(&folder, "merged");
    succeed(&["merge", &to, &fixture("adapters"), "--to", &merged]);
    let weights = model.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes).expect("written");
    let (_, copy) = path(&folder, "copy");
    refuse(&["import", &to, "--to", &copy], 5, &["model.safetensors", "B3SUMS", "changed since"]);
    refuse(&["merge", &to, &fixture("adapters"), "--to", &copy], 5, &["B3SUMS"]);
    refuse(&["inspect", &to], 5, &["B3SUMS"]);
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes[..middle]).expect("written");
    refuse(&["import", &to, "--to", &copy], 5, &["B3SUMS"]);
    std::fs::write(&weights, &bytes).expect("written");
    succeed(&["import", &to, "--to", &copy]);
}

#[test]
fn adapters_of_a_run_are_merged_into_their_own_base_alone_and_damage_between_stages_is_found() {
    let project = Project::quick();
    project.succeed(&["--until", "instruct"]);
    let at = |key: &str| PathBuf::from(project.workdir()).join(key).display().to_string();
    let adapters = at("checkpoints/instruct/step-00000006");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (merged, to) = path(&folder, "merged");
    refuse(&["merge", &at("checkpoints/cpt/step-00000004"), &adapters, "--to", &to], 2, &["the adapters in", "were trained on"]);
    succeed(&["merge", &at("checkpoints/cpt/step-00000006"), &adapters, "--to", &to]);
    let ours = std::fs::read(Path::new(&adapters).join("merged/model.safetensors")).expect("weights");
    assert!(std::fs::read(merged.join("model.safetensors")).expect("weights") == ours, "merge gives what the run merged");
    let config = std::fs::read_to_string(merged.join("tokenizer_config.json")).expect("a configuration");
    assert!(config.contains("chat_template"), "{config}");
    // Between two stages a weight changes, and the list beside it is gone.
    let weights = at("checkpoints/instruct/step-00000006/merged/model.safetensors");
    let mut bytes = ours;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&weights, &bytes).expect("written");
    std::fs::remove_file(at("checkpoints/instruct/step-00000006/merged/B3SUMS")).expect("removed");
    let ended = project.run(&[]);
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(ended.stderr.contains("merged/"), "{}", ended.stderr);
    // A manifest that is not sound is no permission.
    let torn = PathBuf::from(at("checkpoints/cpt/step-00000004"));
    std::fs::remove_file(torn.join("README.md")).expect("removed");
    std::fs::write(torn.join("manifest.json"), "{").expect("written");
    let (_, copy) = path(&folder, "copy");
    let told = succeed(&["import", &torn.display().to_string(), "--to", &copy, "--json"]).json();
    assert_eq!(told["sensitivity"].as_str(), Some("phi"), "{told}");
}

#[test]
fn a_model_that_no_machine_of_this_size_trains_is_refused_before_the_corpus_is_made() {
    let quick = Project::quick();
    let text = std::fs::read_to_string(quick.recipe()).expect("a recipe");
    let project = Project::with_recipe(&text.replace("shape = \"tiny\"", "shape = \"llama-3.1-405b\""));
    // Elsewhere the system is not asked how much memory it has.
    if cfg!(target_os = "linux") {
        let ended = project.run(&[]);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(ended.stderr.contains("training takes at least") && ended.stderr.contains("--until publish"), "{}", ended.stderr);
        assert!(!Path::new(&project.workdir()).join("plan.json").exists(), "another shape is another plan");
    }
    project.succeed(&["--until", "ingest"]);
}

#[test]
fn a_card_that_is_not_there_is_refused_before_the_corpus_is_made() {
    let quick = Project::quick();
    let text = std::fs::read_to_string(quick.recipe()).expect("a recipe");
    let end = text.find("[[instruct.source]]").expect("a part on instructions");
    let check = |keys: &str, expected: &[&str]| {
        let project =
            Project::with_recipe(&text[..end].replace("learning_rate = 3e-3", &format!("learning_rate = 3e-3\n{keys}")));
        let ended = project.run(&[]);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        for part in expected {
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
        assert!(!Path::new(&project.workdir()).join("plan.json").exists(), "another device is another plan");
    };
    check("device = \"cuda\"", &["precision", "f32", "\"bf16\" where device is \"cuda\""]);
    check("device = \"tpu\"", &["unknown value", "known: cpu, cuda"]);
    if Path::new("/proc/driver/nvidia").exists() {
        println!("not run: this machine has NVIDIA's driver");
    } else {
        check("device = \"cuda\"\nprecision = \"bf16\"", &["GPU: no driver", "libcuda.so.1", "device"]);
    }
    let nowhere = quick.run(&["--cuda-libs", "nowhere"]);
    assert_eq!(nowhere.code, 2, "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("--cuda-libs nowhere") && nowhere.stderr.contains("libnvrtc"), "{}", nowhere.stderr);
}

#[test]
fn a_training_that_its_guards_stop_names_the_last_good_checkpoint_and_leaves_its_steps() {
    let quick = Project::quick();
    let text = std::fs::read_to_string(quick.recipe()).expect("a recipe");
    let end = text.find("[[instruct.source]]").expect("a part on instructions");
    let text =
        text[..end].replace("learning_rate = 3e-3", "learning_rate = 1e20\nmax_bad_steps = 2").replace("steps = 6", "steps = 30");
    let check = |every: &str, said: &str| {
        let project = Project::with_recipe(&text.replace("checkpoint_every = 2", every));
        let ended = project.run(&[]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("2 steps in a row") && ended.stderr.contains(said), "{}", ended.stderr);
        let metrics = std::fs::read_dir(PathBuf::from(project.workdir()).join("metrics")).expect("metrics");
        let names: Vec<String> = metrics.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|name| name.contains(".timed-")), "{names:?}");
    };
    check("checkpoint_every = 1000", "there is no checkpoint yet");
    check("checkpoint_every = 1", "the last good checkpoint is checkpoints/cpt/step-0");
}
