//! Scoring as a whole: against the model's own logits, in any order and on any number of threads, after real training.

use std::path::Path;
use std::sync::Arc;

use mellama_shards::{Segment, Sequence, Tokenizer};
use mellama_storage::{MemoryStore, Workdir};
use mellama_train::backend::Processor;
use mellama_train::checkpoint::FILE_LIMIT_BYTES;
use mellama_train::engine::{State, Tensors};
use mellama_train::hf::{Dtype, HfModel, SpecialTokens, weights_digest};
use mellama_train::trainer::{Base, Kind, NoHooks, TrainJob, TrainSpec, train};
use mellama_train::{Batch, Engine, EngineSpec, Parameters, SequenceParts, Shape};

use super::{Evaluation, EvaluationError, Progress, Silent, score_task};
use crate::item::Item;
use crate::model::LoadedModel;
use crate::result::Prediction;
use crate::score::{Window, requests};
use crate::spec::{BosPolicy, EvaluateSpec, Sensitivity, TaskFormat, TaskSpec};
use crate::task::Task;

/// A llama2.c tokenizer file: control tokens, bytes, letters, and two words with their merges.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<(String, f32)> = ["<unk>", "<s>", "</s>"].map(|name| (name.to_owned(), 0.0)).to_vec();
    tokens.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
    let merges = [" y", " n", "es", " yes", " no", "s "];
    tokens.extend(merges.iter().enumerate().map(|(rank, text)| ((*text).to_owned(), -(rank as f32))));
    tokens.extend(" abcdefghijklmnopqrstuvwxyz:?.".chars().map(|letter| (letter.to_string(), -100.0)));
    let mut bytes = 8_u32.to_le_bytes().to_vec();
    for (text, score) in &tokens {
        bytes.extend(score.to_le_bytes());
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    Tokenizer::from_bytes("test.bin", &bytes).unwrap()
}

fn shape() -> Shape {
    Shape { max_positions: 64, ..Shape::named("tiny", tokenizer().vocabulary_size() as usize).unwrap() }
}

/// Fresh weights, enlarged so that predictions differ clearly.
fn model() -> LoadedModel {
    let shape = shape();
    let mut parameters = Parameters::<f32>::initialised(&shape, 5);
    parameters.data.iter_mut().for_each(|value| *value *= 4.0);
    loaded(shape, parameters)
}

fn loaded(shape: Shape, parameters: Parameters<f32>) -> LoadedModel {
    let digest = weights_digest(&shape, &parameters);
    let tokens = SpecialTokens { bos: Some(1), eos: Some(2) };
    LoadedModel::new("test", HfModel { shape, parameters, dtype: Dtype::F32, tokens, digest }, Sensitivity::Open).unwrap()
}

fn spec_of(sensitivity: Sensitivity) -> TaskSpec {
    TaskSpec {
        name: "sample".to_owned(),
        format: TaskFormat::MellamaRows,
        path: "sample.jsonl".to_owned(),
        ground_truth: None,
        limit: None,
        sensitivity,
    }
}

fn row(id: usize) -> String {
    let letter = char::from(b'a' + (id % 26) as u8);
    let query = format!("question {letter}{letter}? ").repeat(1 + id % 3);
    serde_json::json!({"id": format!("i{id}"), "query": query, "answer": "no", "choices": ["yes", "no", "abc"], "gold": id % 3})
        .to_string()
}

fn task(rows: impl IntoIterator<Item = usize>, sensitivity: Sensitivity) -> Task {
    let data: Vec<String> = rows.into_iter().map(row).collect();
    Task::from_bytes(&spec_of(sensitivity), data.join("\n").as_bytes(), None).ok().unwrap()
}

fn score(task: &Task, spec: &EvaluateSpec) -> Evaluation {
    score_task(task, spec, &model(), &tokenizer(), &Silent).unwrap()
}

fn predictions(evaluation: &Evaluation) -> Vec<Prediction> {
    let lines = evaluation.predictions.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn parity_log_likelihoods_equal_those_of_the_whole_forward_pass_in_f64() {
    let (model, tokenizer) = (model(), tokenizer());
    let parameters = model.parameters.cast::<f64>();
    let task = task(0..9, Sensitivity::Open);
    let got = predictions(&score(&task, &EvaluateSpec::default()));
    for (item, prediction) in task.items.iter().zip(got) {
        let window = Window { max_length: 64, bos: Some(1) };
        for (choice, request) in requests(&tokenizer, &item.prompt, &item.choices, window).unwrap().iter().enumerate() {
            let ids: Vec<u32> = request.context.iter().chain(&request.target).copied().collect();
            let segments = [(ids.len() as u32, 0)];
            let part = SequenceParts { tokens: &ids, segments: &segments, loss_mask: None };
            let batch = Batch::from_parts(&[part]).unwrap();
            let mut engine = Engine::on_cpu(Arc::clone(&model.model), EngineSpec::evaluate(1, ids.len())).unwrap();
            engine.load((Tensors::Base, State::Weights), &parameters);
            let logits = engine.logits(&batch).unwrap();
            let vocabulary = model.model.shape().vocabulary;
            let expected: f64 = (request.context.len()..ids.len())
                .map(|at| {
                    let row = &logits[(at - 1) * vocabulary..at * vocabulary];
                    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    row[ids[at] as usize] - most - row.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln()
                })
                .sum();
            let got = prediction.log_likelihoods[choice];
            // f32 against f64 through three layers: logits of a few units, relative error some hundred 2^-24.
            assert!((got - expected).abs() < 1e-3, "item {} choice {choice}: {got} {expected}", item.id);
            assert_eq!(prediction.tokens[choice], request.target.len());
        }
    }
}

#[test]
fn prompt_and_choice_are_encoded_as_one_string() {
    let (tokenizer, choices) = (tokenizer(), ["yes".to_owned(), "no".to_owned()]);
    let window = Window { max_length: 64, bos: Some(1) };
    let encode = |text: &str| tokenizer.encode(text).unwrap();
    for prompt in ["is it so?", "is it so? ", "is it so?\n", "yes"] {
        let context = prompt.trim_end();
        for (request, choice) in requests(&tokenizer, prompt, &choices, window).unwrap().iter().zip(&choices) {
            let whole = encode(&format!("{prompt} {choice}"));
            let cut = encode(context).len();
            assert_eq!(request.context, [&[1][..], &encode(context)].concat(), "{prompt:?}");
            assert_eq!(request.target, whole[cut..], "{prompt:?}");
        }
    }
    // " yes" is one token here, as it is in a vocabulary learned from text.
    assert_eq!(requests(&tokenizer, "so?", &choices, window).unwrap()[0].target.len(), 1);
}

#[test]
fn determinism_order_of_the_file_and_threads_change_no_number() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let spec = EvaluateSpec::default();
    let one = pool(1).install(|| score(&task(0..20, Sensitivity::Open), &spec));
    let four = pool(4).install(|| score(&task(0..20, Sensitivity::Open), &spec));
    assert_eq!(one.predictions, four.predictions);
    assert_eq!(one.result.to_json(), four.result.to_json());
    let mut reversed = predictions(&score(&task((0..20).rev(), Sensitivity::Open), &spec));
    reversed.reverse();
    assert_eq!(reversed, predictions(&one));
}

#[test]
fn case_47_truncation_is_counted_and_keeps_the_end() {
    let task = task(0..6, Sensitivity::Open);
    let whole = score(&task, &EvaluateSpec::default());
    assert_eq!((whole.result.truncated.items, whole.result.truncated.tokens), (0, 0));
    let short = score(&task, &EvaluateSpec { max_length: Some(8), ..EvaluateSpec::default() });
    assert_eq!(short.result.truncated.items, 6);
    let cut: usize = predictions(&short).iter().flat_map(|prediction| prediction.cut.clone()).sum();
    assert_eq!(short.result.truncated.tokens, cut as u64);
    assert_ne!(whole.predictions, short.predictions);
}

#[test]
fn results_carry_what_they_trace_to_and_change_with_it() {
    let (open, spec) = (task(0..6, Sensitivity::Open), EvaluateSpec::default());
    let result = score(&open, &spec).result;
    assert_eq!((result.items, result.scored, result.missing, result.answer_mismatches), (6, 6, 0, 4));
    assert_eq!(result.labels.as_deref(), Some(&["yes".to_owned(), "no".to_owned(), "abc".to_owned()][..]));
    assert_eq!(result.confusion.counts.iter().flatten().sum::<u64>(), 6);
    assert_eq!(result.model_digest, model().digest);
    assert_eq!(result.tokenizer_digest, tokenizer().digest());
    assert_ne!(result.data_digest, score(&task(0..5, Sensitivity::Open), &spec).result.data_digest);
    let never = score(&open, &EvaluateSpec { bos: BosPolicy::Never, ..spec.clone() });
    assert_ne!(never.result.predictions_digest, result.predictions_digest);
    let chat = score(&open, &EvaluateSpec { template: "mellama".to_owned(), ..spec });
    assert_ne!(chat.result.predictions_digest, result.predictions_digest);
    let read: crate::result::TaskResult = serde_json::from_slice(&result.to_json()).unwrap();
    assert_eq!(read, result);
}

#[test]
fn case_41_no_text_of_sensitive_data_leaves() {
    let canary = "xylophone";
    let spec = spec_of(Sensitivity::Phi);
    let line = |gold: i64| {
        serde_json::json!({"id": "p1", "query": format!("{canary} q"), "answer": canary, "choices": [canary, "no"], "gold": gold})
            .to_string()
    };
    let second = line(0).replace("p1", "p2");
    let sound = Task::from_bytes(&spec, [line(1), second].join("\n").as_bytes(), None).ok().unwrap();
    let evaluation = score(&sound, &EvaluateSpec::default());
    assert_eq!(evaluation.result.sensitivity, Sensitivity::Phi);
    let mut shown =
        vec![String::from_utf8(evaluation.result.to_json()).unwrap(), String::from_utf8(evaluation.predictions).unwrap()];
    let cut = line(0);
    for bad in [line(7), cut[..cut.len() - 3].to_owned(), canary.to_owned(), format!("{{\"id\":\"{canary}\"")] {
        let error = Task::from_bytes(&spec, bad.as_bytes(), None).map(|_| ()).unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    for text in shown {
        assert!(!text.contains(canary), "{text}");
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let task = task(0..2, Sensitivity::Open);
    let refused = |spec: EvaluateSpec, model: &LoadedModel| score_task(&task, &spec, model, &tokenizer(), &Silent).unwrap_err();
    let length = EvaluateSpec { max_length: Some(65), ..EvaluateSpec::default() };
    assert!(matches!(refused(length, &model()), EvaluationError::MaxLength { got: 65, expected: 64, .. }));
    let template = EvaluateSpec { template: "vicuna".to_owned(), ..EvaluateSpec::default() };
    assert!(matches!(refused(template, &model()), EvaluationError::Template(_)));
    let small = Shape { vocabulary: 100, ..shape() };
    let parameters = Parameters::initialised(&small, 1);
    assert!(matches!(refused(EvaluateSpec::default(), &loaded(small, parameters)), EvaluationError::Vocabulary { .. }));
    let mut broken = model();
    broken.parameters.data.fill(f32::NAN);
    match refused(EvaluateSpec::default(), &broken) {
        EvaluationError::Item { id, .. } => assert_eq!(id, "i0"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_leaves_no_result() {
    struct Stop;
    impl Progress for Stop {
        fn should_stop(&self) -> bool {
            true
        }
    }
    let stopped = score_task(&task(0..2, Sensitivity::Open), &EvaluateSpec::default(), &model(), &tokenizer(), &Stop);
    assert!(matches!(stopped, Err(EvaluationError::Stopped { .. })));
}

/// Prompt and right answer of an item as one training sequence of 48 tokens.
fn answered(tokenizer: &Tokenizer, item: &Item) -> Sequence {
    let length = 48;
    let text = format!("{} {}", item.prompt, item.choices[item.gold]);
    let mut tokens = vec![1];
    tokens.extend(tokenizer.encode(&text).unwrap());
    tokens.push(2);
    let end = tokens.len() as u32;
    assert!(end as usize <= length, "{end} tokens");
    tokens.resize(length, 0);
    let segment = Segment { end, document: 0, source: 0, offset: 0, epoch: 0 };
    Sequence { tokens, segments: vec![segment], loss_mask: None }
}

#[test]
fn a_model_trained_on_the_answers_gets_them_right() {
    let (tokenizer, rows) = (tokenizer(), 0..8);
    let task = task(rows, Sensitivity::Open);
    let data: Vec<Sequence> = task.items.iter().map(|item| answered(&tokenizer, item)).collect();
    let tokens = SpecialTokens { bos: Some(1), eos: Some(2) };
    let job = TrainJob {
        kind: Kind::Cpt,
        spec: TrainSpec {
            learning_rate: 5e-3,
            batch_sequences: 8,
            micro_batch_sequences: 8,
            epochs: 60,
            checkpoint_every: 1000,
            ..TrainSpec::cpt()
        },
        seed: 1,
        base: Base::fresh(shape(), 1, tokens, "tiny").unwrap(),
        data_digest: String::new(),
        source_names: Vec::new(),
        sensitivity: "open".to_owned(),
        companions: Vec::new(),
        merged_companions: Vec::new(),
        file_limit_bytes: FILE_LIMIT_BYTES,
        machine: Arc::new(Processor),
    };
    let workdir = Workdir::new(Arc::new(MemoryStore::new("trained")));
    let outcome = train(job, &data, None, &workdir, &mut NoHooks).unwrap();
    let trained = LoadedModel::load(workdir.store(), &outcome.model_folder.unwrap(), Sensitivity::Open).unwrap();
    let result = score_task(&task, &EvaluateSpec::default(), &trained, &tokenizer, &Silent).unwrap().result;
    assert_eq!((result.acc.value, result.acc_norm.value, result.macro_f1), (1.0, 1.0, 1.0));
    let fresh = loaded(shape(), Parameters::initialised(&shape(), 1));
    let before = score_task(&task, &EvaluateSpec::default(), &fresh, &tokenizer, &Silent).unwrap().result;
    assert!(before.acc.value < 0.7, "fresh weights know nothing: {}", before.acc.value);
}

#[test]
fn pubmedqa_runs_on_the_public_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let read = |name: &str| std::fs::read(folder.join(name));
    let (Ok(data), Ok(truth), Ok(weights), Ok(tokens)) = (
        read("benchmarks/pubmedqa/ori_pqal.json"),
        read("benchmarks/pubmedqa/test_ground_truth.json"),
        read("checkpoint/stories260K.bin"),
        read("checkpoint/tok512.bin"),
    ) else {
        println!("not run: the public PubMedQA files or the model stories260K are absent");
        return;
    };
    let (shape, parameters) =
        mellama_train::llama2c::import("stories260K.bin", weights.len() as u64, weights.as_slice()).unwrap();
    let model = loaded(shape, parameters);
    let tokenizer = Tokenizer::from_bytes("tok512.bin", &tokens).unwrap();
    let spec = TaskSpec { format: TaskFormat::Pubmedqa, limit: Some(12), ..spec_of(Sensitivity::Open) };
    let task = Task::from_bytes(&spec, &data, Some(&truth)).ok().unwrap();
    assert_eq!((task.all_items, task.items.len()), (500, 12));
    let evaluation = score_task(&task, &EvaluateSpec::default(), &model, &tokenizer, &Silent).unwrap();
    let result = &evaluation.result;
    assert_eq!((result.items, result.scored, result.max_length), (500, 12, 512));
    // Abstracts of about 250 words are longer than 512 tokens of a vocabulary of 512.
    assert!(result.truncated.items > 6, "{:?}", result.truncated);
    assert_eq!(result.labels.as_ref().unwrap(), &["yes", "no", "maybe"]);
    let negative = predictions(&evaluation).iter().all(|prediction| prediction.log_likelihoods.iter().all(|sum| *sum < 0.0));
    assert!(negative);
}
