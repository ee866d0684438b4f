//! Writes the golden files of a format version: `cargo run -p mellama-tests --bin make-golden FOLDER`.
//!
//! Where the folder is empty it first writes `recipe.toml`, `training.json` and small invented inputs; what is there
//! already it takes as it is. Then it runs the pipeline in this process and trains a tiny model, all into `FOLDER/run`.
//! It replaces nothing: published golden files stay as they are for ever.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mellama_pipeline::{Resources, Session, Silent, Stage, runner};
use mellama_shards::{ShardSet, Tokenizer};
use mellama_storage::{ObjectEntry, StageManifest};
use mellama_train::backend::Processor;
use mellama_train::hf::SpecialTokens;
use mellama_train::trainer::{Base, Companion, Kind, NoHooks, TrainJob, TrainSpec, train};
use mellama_train::{Shape, TrainOutcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Memory of the pipeline, in bytes.
const MEMORY_BYTES: u64 = 256 << 20;
/// Ids of the inputs' tokenizer: so few that two checkpoints are small.
const VOCABULARY_SIZE: usize = 384;
/// Size above which a checkpoint's tensors are cut into several files: so low that they are.
const FILE_BYTES: u64 = 40_000;
/// Control tokens and bytes, which every cut of the fixtures' tokenizer keeps.
const FIXED_IDS: usize = 259;

/// The folder's recipe. Paths are relative to it, so that nothing in the output depends on where it lies.
const RECIPE: &str = r#"# Every kind of object that a corpus has, as small as can be. The inputs beside this file are invented.

name = "golden"
seed = 11
workdir = "run"

[[corpus.source]]
name = "journal"
format = "jsonl"
inputs = ["inputs/journal.jsonl"]
domain = "biomedical"
licence = "CC-BY-4.0"
fields = { year = "year" }
max_epochs = 3
max_rejects = 0.1

[[corpus.source]]
name = "ward"
format = "jsonl"
inputs = ["inputs/ward.jsonl"]
domain = "clinical"
sensitivity = "dua"
fields = { version = "version" }
max_rejects = 0.1

[[corpus.source]]
name = "almanac"
format = "jsonl"
inputs = ["inputs/almanac.jsonl"]
domain = "general"
max_rejects = 0.1

[corpus.clean]
min_words = 5

[corpus.dedup]

[corpus.tokenizer]
path = "inputs/tokenizer.json"

[corpus.mixture]
tokens = 1_800
biomedical = 3
clinical = 1
general = 1

[corpus.pack]
sequence_length = 32
heldout = 0.2
shard_sequences = 24

[[instruct.source]]
name = "questions"
inputs = ["inputs/questions.jsonl"]
max_rejects = 0.2

[instruct]
template = "mellama"
sequence_length = 64
"#;

const JOURNAL: [&str; 9] = [
    "Velnia fever follows the bite of the marsh louse. In forty patients of the river towns, tarvolin ended the fever \
     within three days, and none of them fell ill again before winter.",
    "We measured the level of brastin in serum before and after a meal of barley. The level rose by half within an hour \
     and was back where it began after four hours in all but two subjects.",
    "A new stain shows the walls of the quill cells in the gut. It is made of beet juice and weak acid, keeps for a \
     month in the dark, and costs less than the one in use.",
    "Children with orlic cough were given warm salt air or plain air for ten nights. Both groups slept the same, and the \
     cough was gone after nine nights in either one.",
    "The gene called pelt-4 is silent in the liver of young mice. When it is made to speak, the liver stores twice the \
     fat and the animals grow slowly.",
    "Three hospitals counted falls over one year. Fewer people fell where the floor was dry, the lamps were on at night \
     and the slippers had a heel.",
    "Noxil and tarvolin were compared for the pain of stone gout. Noxil was faster in the first hour; after that there \
     was no difference, and two people had a rash.",
    "Bone of old sheep breaks at a lower load than bone of young sheep. The loss begins at the sixth year and is largest \
     in the ribs.",
    "A short walk after supper lowered the pulse at rest by four beats a minute in a group of clerks who had not walked \
     before.",
];

const WARD: [&str; 9] = [
    "Admitted with velnia fever and a stiff neck. Given tarvolin by mouth twice a day. The fever fell on the second day \
     and the patient ate well. Home on the fourth day with no further drugs.",
    "Seen for pain in the left knee after a fall from a ladder. No break on the film. Rest, cold cloths and noxil for \
     three days. To come back if the knee locks.",
    "Cough for two weeks, worse at night. Chest clear on both sides. No fever. Likely orlic cough. Salt air advised, \
     and a visit in ten days.",
    "Routine visit. Weight steady, pulse seventy and even, pressure one hundred and thirty over eighty. Continue the \
     same tablets.",
    "Brought in by her brother with a rash on both arms since the morning. She had taken noxil for the first time. Noxil \
     stopped. Rash pale by evening.",
    "Stone gout in the right foot, third time this year. Red, warm, very tender. Tarvolin given. Asked to drink more \
     water and less beer.",
    "Wound on the palm from a kitchen knife, four stitches, clean. Stitches out in one week. Tetanus shot given today.",
    "Slept badly since the spring. Works nights at the mill. Advised dark curtains and no tea after noon. No tablets \
     for now.",
    "Follow up after surgery of the gall bladder. Scar dry and closed. Eats everything. Discharged from our care.",
];

const ALMANAC: [&str; 9] = [
    "The bridge at Oldmere has nine arches, and each was paid for by another guild. The bakers' arch is the widest, for \
     they wanted their carts to pass two by two on market days.",
    "To keep apples until spring, lay them on straw so that no two touch, in a room that is cool but never freezes, and \
     turn out any that go soft.",
    "Rain came on a hundred and twelve days this year. The wettest was the ninth of May, when the lower road was under \
     water until noon.",
    "The night train leaves at ten and reaches the coast at six. There is a car with beds, a car with tables, and one \
     where singing is allowed.",
    "Our town had a clock before it had a school. The first clock lost an hour a day, so that people said they lived \
     longer than their neighbours.",
    "Knots that hold when wet: the mill hitch, the double loop and the fisher's bend. Learn them with thick rope first.",
    "A letter to the islands takes three days in summer and as many weeks in winter, for the boat waits for the wind.",
    "The baker's recipe for dark bread asks for rye, sour dough, salt, a little honey and a whole night of patience.",
    "Foxes were seen again on the hill above the tannery, five of them, and they were not afraid of the dogs.",
];

/// Question and answer; the last one is longer than a sequence.
const QUESTIONS: [(&str, &str); 7] = [
    ("Is noxil a drug?", "Yes."),
    ("Is Oldmere a drug?", "No."),
    ("Who bites?", "The louse."),
    ("Is rye a bread?", "It makes one."),
    ("How many arches?", "Nine."),
    ("Wet knots?", "The mill hitch."),
    (
        "Which of the two drugs should be given first to a person with stone gout who had a rash before, and for how long?",
        "Give tarvolin, since noxil has made a rash in some people, and stop it when the foot is no longer tender.",
    ),
];

/// `training.json`: the model and the run that make the checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    shape: Shape,
    spec: TrainSpec,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("FOLDER: absent; give the folder of a format version, such as tests/golden/v2")?;
    if folder.join("run").exists() {
        let shown = folder.display();
        return Err(format!("{shown}: has golden files already, which are never replaced; give another folder").into());
    }
    if !folder.join("recipe.toml").exists() {
        write_inputs(&folder)?;
    }
    let session = open(&folder)?;
    let observer = Silent;
    let context = session.context(&observer);
    for stage in runner::run(&context, Some(Stage::InstructData))? {
        println!("{:<14} {} written, {}", stage.stage, stage.counts.written.documents, stage.digest.unwrap_or_default());
    }
    let outcome = train_model(&folder, &session)?;
    let loss = outcome.last_step.and_then(|step| step.loss);
    println!("{:<14} {} steps, loss {loss:?}", outcome.folder, outcome.step);
    // The store leaves its own folder for temporary files behind; git would not keep it.
    fs::remove_dir(folder.join("run/.mellama-tmp"))?;
    Ok(())
}

fn open(folder: &Path) -> Result<Session, Box<dyn Error>> {
    let run = folder.join("run");
    let uri = run.to_str().ok_or("FOLDER: not UTF-8; give another folder")?;
    let resources = Resources { threads: 2, memory_bytes: MEMORY_BYTES, scratch: std::env::temp_dir(), ..Resources::default() };
    Ok(Session::open(&folder.join("recipe.toml"), Some(uri), resources, &Silent)?)
}

/// Trains from fresh weights on the published training shards.
fn train_model(folder: &Path, session: &Session) -> Result<TrainOutcome, Box<dyn Error>> {
    let Training { shape, spec } = serde_json::from_slice(&fs::read(folder.join("training.json"))?)?;
    let tokenizer_bytes = fs::read(folder.join("inputs/tokenizer.json"))?;
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", &tokenizer_bytes)?;
    let manifest = session.workdir.read_manifest(&session.plan.id, Stage::Publish.name())?;
    let manifest: StageManifest = manifest.ok_or("publish: not finished")?;
    let is_train = |entry: &&ObjectEntry| entry.key.starts_with("shards/cpt/train-");
    let shards: Vec<ObjectEntry> = manifest.objects.iter().filter(is_train).cloned().collect();
    let corpus = session.file.recipe.corpus.iter().flat_map(|corpus| &corpus.source);
    let seed = session.file.recipe.seed;
    let tokens = SpecialTokens { bos: tokenizer.bos(), eos: tokenizer.eos() };
    let data = ShardSet::open(&session.workdir, &shards)?;
    let job = TrainJob {
        kind: Kind::Cpt,
        spec,
        seed,
        base: Base::fresh(shape, seed, tokens, "golden")?,
        data_digest: runner::digest(&manifest),
        source_names: corpus.map(|source| source.name.clone()).collect(),
        sensitivity: data.header().sensitivity.clone(),
        companions: vec![Companion { name: "tokenizer.json".to_owned(), bytes: tokenizer_bytes }],
        merged_companions: Vec::new(),
        file_limit_bytes: FILE_BYTES,
        machine: Arc::new(Processor),
    };
    Ok(train(job, &data, None, &session.workdir, &mut NoHooks)?)
}

fn write_inputs(folder: &Path) -> Result<(), Box<dyn Error>> {
    let shape = Shape {
        width: 16,
        feed_forward: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        vocabulary: VOCABULARY_SIZE,
        max_positions: 64,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
        tied_embeddings: false,
        rope_scaling: None,
        window: None,
    };
    // An epsilon far above rounding errors of a gradient, so that other processors come to nearly the same weights.
    let spec = TrainSpec {
        learning_rate: 0.02,
        epsilon: 1e-4,
        batch_sequences: 8,
        micro_batch_sequences: 4,
        steps: Some(4),
        checkpoint_every: 2,
        ..TrainSpec::cpt()
    };
    let training = serde_json::to_string_pretty(&Training { shape, spec })? + "\n";
    let inputs = folder.join("inputs");
    fs::create_dir_all(&inputs)?;
    fs::write(folder.join("recipe.toml"), RECIPE)?;
    fs::write(folder.join("training.json"), training)?;
    fs::write(inputs.join("tokenizer.json"), cut_tokenizer()?)?;
    fs::write(inputs.join("journal.jsonl"), journal())?;
    fs::write(inputs.join("ward.jsonl"), ward())?;
    fs::write(inputs.join("almanac.jsonl"), almanac())?;
    fs::write(inputs.join("questions.jsonl"), questions())?;
    Ok(())
}

/// Nine articles; an exact copy, a copy with another end, a line that is cut.
fn journal() -> String {
    let mut lines: Vec<Value> = (1..).zip(JOURNAL).map(|(n, text)| article(n, text)).collect();
    lines.push(article(10, JOURNAL[3]));
    lines.push(article(11, &format!("{} Nobody was ill.", JOURNAL[1])));
    json_lines(&lines) + "{\"id\": \"J12\", \"title\": \"Cut short\", \"text\": \"The line ends he\n"
}

fn article(number: usize, text: &str) -> Value {
    let title = text.split(['.', ',']).next().unwrap_or_default();
    json!({"id": format!("J{number}"), "title": title, "text": text, "year": 1990 + number, "section": "reports"})
}

/// Nine notes; a second version, an exact copy, a copy with another end, a note without text.
fn ward() -> String {
    let note = |id: &str, version: u32, text: &str| json!({"id": id, "version": version, "text": text});
    let mut lines: Vec<Value> = (1..).zip(WARD).map(|(n, text)| note(&format!("W{n}"), 1, text)).collect();
    lines.push(note("W9", 2, &format!("{} Corrected: gall bladder and stone.", WARD[8])));
    lines.push(note("W10", 1, WARD[1]));
    lines.push(note("W11", 1, &format!("{} Signed by the ward.", WARD[0])));
    lines.push(json!({"id": "W12", "version": 1}));
    json_lines(&lines)
}

/// Nine pieces without ids; an exact copy, a copy with another end, one with too few words, a line that is no JSON.
fn almanac() -> String {
    let piece = |text: &str| json!({"text": text, "page": text.len()});
    let mut lines: Vec<Value> = ALMANAC.iter().map(|text| piece(text)).collect();
    lines.push(piece(&format!("{}\n", ALMANAC[5])));
    lines.push(piece(&format!("{} So it is told.", ALMANAC[0])));
    lines.push(piece("Too few words."));
    json_lines(&lines) + "page torn out\n"
}

/// Conversations in three layouts, one that is too long, and a record without an answer.
fn questions() -> String {
    let mut lines: Vec<Value> =
        QUESTIONS.iter().map(|(question, answer)| json!({"question": question, "answer": answer})).collect();
    lines.push(json!({"instruction": "Say yes.", "input": "", "output": "Yes."}));
    lines.push(json!({"messages": [
        {"role": "user", "content": "Dry?"}, {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Wet?"}, {"role": "assistant", "content": "Yes."}
    ]}));
    lines.push(json!({"question": "Why?"}));
    json_lines(&lines)
}

fn json_lines(values: &[Value]) -> String {
    let lines: Vec<String> = values.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// The fixtures' tokenizer with its first merges only: control tokens, bytes, joined pieces, single characters.
fn cut_tokenizer() -> Result<String, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(path)?)?;
    let ids: serde_json::Map<String, Value> = serde_json::from_value(tokenizer["model"]["vocab"].clone())?;
    let mut pieces: Vec<(u64, String)> = ids.into_iter().map(|(piece, id)| (id.as_u64().unwrap_or(u64::MAX), piece)).collect();
    pieces.sort_unstable();
    let merges = tokenizer["model"]["merges"].as_array_mut().ok_or("the fixtures' tokenizer has merges")?;
    let characters = pieces.split_off(FIXED_IDS + merges.len());
    merges.truncate(VOCABULARY_SIZE - FIXED_IDS - characters.len());
    pieces.truncate(FIXED_IDS + merges.len());
    let kept = pieces.into_iter().chain(characters).map(|(_, piece)| piece);
    tokenizer["model"]["vocab"] = kept.zip(0_u64..).map(|(piece, id)| (piece, json!(id))).collect();
    Ok(serde_json::to_string(&tokenizer)? + "\n")
}
