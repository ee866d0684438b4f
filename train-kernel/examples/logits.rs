//! Prints the logits of a model folder for a list of token ids, one JSON array a position: what other programs compare with.
//!
//!     logits FOLDER [--adapters FOLDER] ID…

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use mellama_train::engine::{State, Tensors};
use mellama_train::hf::{adapter, load_folder};
use mellama_train::{Batch, Engine, EngineSpec, Model, SequenceParts};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let folder = arguments.next().ok_or("FOLDER: absent; give a model folder")?;
    let adapters = arguments.next_if(|word| word == "--adapters").and_then(|_| arguments.next());
    let tokens = arguments.map(|id| id.parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
    let loaded = load_folder(Path::new(&folder))?;
    let adapters = adapters.map(|folder| adapter::load_folder(Path::new(&folder), &loaded.shape)).transpose()?;
    let vocabulary = loaded.shape.vocabulary;
    let segments = [(tokens.len() as u32, 0)];
    let batch = Batch::from_parts(&[SequenceParts { tokens: &tokens, segments: &segments, loss_mask: None }])?;
    batch.check(&loaded.shape)?;
    let spec = EngineSpec::evaluate(1, tokens.len()).with_lora(adapters.as_ref().map(|adapters| adapters.spec.clone()));
    let mut engine = Engine::on_cpu(Arc::new(Model::new(loaded.shape)?), spec)?;
    engine.load((Tensors::Base, State::Weights), &loaded.parameters);
    if let Some(adapters) = &adapters {
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    let mut out = std::io::stdout().lock();
    for row in engine.logits(&batch)?.chunks_exact(vocabulary) {
        serde_json::to_writer(&mut out, row)?;
        writeln!(out)?;
    }
    Ok(())
}
