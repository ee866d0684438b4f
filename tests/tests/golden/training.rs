//! The checkpoints and shards of the first version go on being trained on, to the committed losses.

use super::*;

#[test]
fn golden_v1_checkpoint_resumes_to_the_committed_losses() {
    let committed = Run::golden();
    assert_losses(&committed.step_records(), &LOSSES);
    assert_eq!(list_steps(&committed.workdir, Kind::Cpt).unwrap(), [2, 4]);
    let folder = tempfile::tempdir().unwrap();
    let is_last = |path: &Path| path.starts_with("checkpoints/cpt/step-00000004") || path.ends_with("cpt-00000004.jsonl");
    copy(&golden().join("run"), folder.path(), |path| !is_last(path));
    let run = Run::open(folder.path());
    let found = newest(&run.workdir, Kind::Cpt).unwrap().unwrap();
    assert_eq!((found.manifest.format, found.manifest.step, found.manifest.cursor.position), (1, 2, 16));
    let data = run.shards("publish", "shards/cpt/train-");
    let mut records = Records::default();
    let outcome: TrainOutcome = train(job(&run, &found.manifest), &data, None, &run.workdir, &mut records).unwrap();
    assert_eq!((outcome.resumed_from, outcome.step), (Some(2), 4));
    assert_losses(&records.0, &LOSSES[2..]);
    assert_same_weights(&run.model(4), &committed.model(4));
    // The finished run is recognized as such, and nothing is trained again.
    let mut none = Records::default();
    let again = train(job(&run, &found.manifest), &data, None, &run.workdir, &mut none).unwrap();
    assert_eq!((again.step, none.0.len()), (4, 0));
}

#[test]
fn golden_v1_trains_from_fresh_weights_to_the_committed_losses() {
    let committed = Run::golden();
    let found = newest(&committed.workdir, Kind::Cpt).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let workdir = Workdir::open(&Stores::default(), folder.path().to_str().unwrap()).unwrap();
    let mut records = Records::default();
    let data = committed.shards("publish", "shards/cpt/train-");
    train(job(&committed, &found.manifest), &data, None, &workdir, &mut records).unwrap();
    assert_losses(&records.0, &LOSSES);
}

#[test]
fn golden_v1_instruction_shards_tune_adapters() {
    let committed = Run::golden();
    let data = committed.shards("instruct-data", "shards/instruct/train-");
    let folder = tempfile::tempdir().unwrap();
    let workdir = Workdir::open(&Stores::default(), folder.path().to_str().unwrap()).unwrap();
    let spec = TrainSpec {
        learning_rate: 0.02,
        epsilon: 1e-4,
        batch_sequences: data.len(),
        micro_batch_sequences: 1,
        epochs: 2,
        lora: Some(LoraSpec { rank: 2, alpha: 4.0, dropout: 0.0, ..LoraSpec::default() }),
        ..TrainSpec::instruct()
    };
    let job = TrainJob {
        kind: Kind::Instruct,
        spec,
        base: Base::loaded(committed.model(4), "golden"),
        data_digest: runner::digest(&committed.manifest("instruct-data")),
        source_names: data.header().sources.clone(),
        sensitivity: "dua".to_owned(),
        seed: 11,
        companions: Vec::new(),
        merged_companions: Vec::new(),
        file_limit_bytes: FILE_LIMIT_BYTES,
        machine: Arc::new(Processor),
    };
    let mut records = Records::default();
    train(job, &data, None, &workdir, &mut records).unwrap();
    assert_eq!(records.0[0].loss_tokens, 59);
    assert_losses(&records.0, &[5.461_558_927, 5.447_773_265]);
}

#[test]
fn golden_v1_model_generates_the_written_tokens() {
    let committed = Run::golden();
    let loaded = committed.model(4);
    let model = std::sync::Arc::new(Model::new(loaded.shape.clone()).unwrap());
    let tokenizer = tokenizer();
    let mut decoder = Decoder::on_cpu(&model, &loaded.parameters, None, (1, 64)).unwrap();
    let mut prompt = vec![tokenizer.bos().unwrap()];
    prompt.extend(tokenizer.encode("Given").unwrap());
    let mut tokens = Vec::new();
    let mut logits = decoder.feed(0, &prompt).unwrap().to_vec();
    for _ in 0..8 {
        let next = argmax(&logits);
        let mut sorted = logits.clone();
        sorted.sort_by(f32::total_cmp);
        // Far above the rounding of another processor, so that the tokens may be compared exactly.
        let lead = sorted[sorted.len() - 1] - sorted[sorted.len() - 2];
        assert!(lead > 1e-3, "the most likely token leads by {lead} alone");
        tokens.push(next);
        logits = decoder.feed(0, &[next]).unwrap().to_vec();
    }
    assert_eq!(tokens, [352, 363, 363, 363, 363, 363, 363, 363]);
    // So young a model repeats the letters that it has seen most; what it says of a text shows more of the arithmetic.
    decoder.truncate(0, 0);
    decoder.feed(0, &prompt).unwrap();
    let score = decoder.score(0, &tokenizer.encode("by mouth twice a day.").unwrap()).unwrap();
    assert_eq!((score.tokens, score.greedy), (17, false));
    assert!((score.log_likelihood + 89.523_596).abs() < 1e-3, "{}", score.log_likelihood);
}
