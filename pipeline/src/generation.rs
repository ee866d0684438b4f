//! `generate`: a checkpoint folder continues a prompt, one token at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mellama_shards::Tokenizer;
use mellama_train::Model;
use mellama_train::generation::{Continuation, Decoder, Finish, GenerationError, Sampling};
use mellama_train::hf::load_folder;
use serde::Serialize;

use crate::failure::{Failure, chain};
use mellama_storage::Stores;

use crate::location::Location;
use crate::training::check_fit;

/// Tokenizer files looked for beside the weights, in this order.
const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"];

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Folder with the weights.
    pub checkpoint: &'a Path,
    /// Text to continue.
    pub prompt: &'a str,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Tokenizer file; `None` takes the one beside the weights.
    pub tokenizer: Option<&'a Path>,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Generated {
    /// The prompt and its continuation.
    pub text: String,
    /// Tokens of the prompt, begin token included.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// `length`, `end-of-text`, `context-full` or `stopped`.
    pub finish: &'static str,
}

/// Continues a prompt greedily. `write` receives prompt and continuation as bytes as they come; when it returns false,
/// generation stops.
///
/// # Errors
/// `Failure::Policy` when checkpoint, tokenizer and prompt do not fit each other.
pub fn generate(request: &Request<'_>, write: &mut dyn FnMut(&[u8]) -> bool) -> Result<Generated, Failure> {
    let model = load_folder(request.checkpoint).map_err(|e| Failure::Policy(chain(&e)))?;
    let path = tokenizer_path(request)?;
    let name = path.display().to_string();
    let unreadable = |e| Failure::Policy(format!("{name}: cannot be read: {}; give --tokenizer", chain(&e)));
    let bytes = Location::of(&path).read(&Stores::default()).map_err(unreadable)?;
    let tokenizer = Tokenizer::from_bytes(&name, &bytes).map_err(|e| Failure::Policy(chain(&e)))?;
    check_fit(&request.checkpoint.display().to_string(), &model, &tokenizer)?;
    let encoded = tokenizer.encode(request.prompt).map_err(|e| Failure::Policy(format!("--prompt: {e}")))?;
    let prompt: Vec<u32> = tokenizer.bos().into_iter().chain(encoded).collect();
    let window = model.shape.max_positions;
    if prompt.is_empty() || prompt.len() > window {
        return Err(Failure::Policy(format!("--prompt: {} tokens, expected 1 to {window}; shorten it", prompt.len())));
    }
    let network = Arc::new(Model::new(model.shape.clone()).map_err(|e| Failure::Policy(chain(&e)))?);
    let capacity = (prompt.len() + request.max_tokens).min(window);
    let decoder = Decoder::on_cpu(&network, &model.parameters, None, (1, capacity));
    let mut decoder = decoder.map_err(|e| Failure::Policy(chain(&e)))?;
    let mut stream = Stream { tokenizer: &tokenizer, previous: None, text: Vec::new(), write };
    let going = prompt.iter().all(|token| stream.push(*token));
    // llama2.c models begin a new text with the begin token where others end one.
    let stop = [model.tokens.eos, tokenizer.eos(), tokenizer.bos()].into_iter().flatten().collect();
    let max_tokens = if going { request.max_tokens } else { 0 };
    let asked = Continuation { prompt: prompt.clone(), max_tokens, stop, sampling: Sampling::Greedy };
    let mut generated = 0;
    let done = decoder.generate(&[asked], &mut |_, token| {
        generated += 1;
        stream.push(token)
    });
    let done = done.map_err(|e: GenerationError| Failure::Failed(chain(&e)))?;
    let finish = match done[0].finish {
        Finish::Caller => "stopped",
        _ if !going => "stopped",
        Finish::MaxTokens => "length",
        Finish::Stop(_) => "end-of-text",
        Finish::ContextFull => "context-full",
    };
    let text = String::from_utf8_lossy(&stream.text).into_owned();
    Ok(Generated { text, prompt_tokens: prompt.len(), generated_tokens: generated, finish })
}

fn tokenizer_path(request: &Request<'_>) -> Result<PathBuf, Failure> {
    if let Some(path) = request.tokenizer {
        return Ok(path.to_owned());
    }
    let beside = TOKENIZER_FILES.iter().map(|name| request.checkpoint.join(name)).find(|path| path.is_file());
    let folder = request.checkpoint.display();
    beside.ok_or_else(|| Failure::Policy(format!("{folder}: no tokenizer beside the weights; give --tokenizer FILE")))
}

/// Tokens to bytes, in the way of a typewriter.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    previous: Option<u32>,
    text: Vec<u8>,
    write: &'a mut dyn FnMut(&[u8]) -> bool,
}

impl Stream<'_> {
    fn push(&mut self, token: u32) -> bool {
        let special = [self.tokenizer.bos(), self.tokenizer.eos()].contains(&Some(token));
        let bytes = if special { Vec::new() } else { self.tokenizer.decode_piece(self.previous, token) };
        self.previous = Some(token);
        self.text.extend_from_slice(&bytes);
        (self.write)(&bytes)
    }
}
