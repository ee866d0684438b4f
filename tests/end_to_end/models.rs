//! Models that others wrote: imported, merged with adapters of PEFT, and refused.

use std::path::{Path, PathBuf};

use crate::commands::refuse;
use crate::project::succeed;

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
