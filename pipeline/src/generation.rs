//! `generate`: a checkpoint folder continues a prompt, one token at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mellama_shards::Tokenizer;
use mellama_train::Model;
pub use mellama_train::generation::Sampling;
use mellama_train::generation::{Continuation, Decoder, Finish, GenerationError};
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
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation and are not part of it.
    pub stop: &'a [String],
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
    /// `length`, `end-of-text`, `stop` (a stop text), `context-full` or `stopped`.
    pub finish: &'static str,
}

/// Continues a prompt. `write` receives prompt and continuation as bytes as they come; when it returns false,
/// generation stops.
///
/// # Errors
/// `Failure::Policy` when checkpoint, tokenizer and prompt do not fit each other.
pub fn generate(request: &Request<'_>, write: &mut dyn FnMut(&[u8]) -> bool) -> Result<Generated, Failure> {
    let model = load_folder(request.checkpoint).map_err(|e| Failure::loading(&e))?;
    let path = tokenizer_path(request)?;
    let name = path.display().to_string();
    let unreadable = |e| Failure::Policy(format!("{name}: cannot be read: {}; give --tokenizer", chain(&e)));
    let bytes = Location::of(&path).read(&Stores::default()).map_err(unreadable)?;
    let tokenizer = Tokenizer::from_bytes(&name, &bytes).map_err(|e| Failure::Policy(chain(&e)))?;
    check_fit(&request.checkpoint.display().to_string(), &model, &tokenizer)?;
    let encoded = tokenizer.encode(request.prompt).map_err(|e| Failure::Policy(format!("--prompt: {e}")))?;
    let prompt: Vec<u32> = tokenizer.bos().into_iter().chain(encoded).collect();
    check_sampling(request)?;
    let window = model.shape.max_positions;
    if prompt.is_empty() || prompt.len() > window {
        return Err(Failure::Policy(format!("--prompt: {} tokens, expected 1 to {window}; shorten it", prompt.len())));
    }
    let network = Arc::new(Model::new(model.shape.clone()).map_err(|e| Failure::Policy(chain(&e)))?);
    let capacity = (prompt.len() + request.max_tokens).min(window);
    let decoder = Decoder::on_cpu(&network, &model.parameters, None, (1, capacity));
    let mut decoder = decoder.map_err(|e| Failure::Policy(chain(&e)))?;
    let mut stream = Stream { tokenizer: &tokenizer, previous: None, text: Vec::new(), written: 0, write };
    let going = prompt.iter().all(|token| stream.push(*token)) && stream.flush();
    let stops = Stops { texts: request.stop, from: stream.text.len() };
    // llama2.c models begin a new text with the begin token where others end one.
    let stop = [model.tokens.eos, tokenizer.eos(), tokenizer.bos()].into_iter().flatten().collect();
    let max_tokens = if going { request.max_tokens } else { 0 };
    let asked = Continuation { prompt: prompt.clone(), max_tokens, stop, sampling: request.sampling };
    let (mut generated, mut stopped) = (0, false);
    let done = decoder.generate(&[asked], &mut |_, token| {
        generated += 1;
        stream.read(token);
        if let Some(end) = stops.found(&stream.text) {
            stream.text.truncate(end);
            stopped = true;
            return false;
        }
        stream.flush_but(stops.held(&stream.text))
    });
    let done = done.map_err(|e: GenerationError| Failure::Failed(chain(&e)))?;
    let flushed = stream.flush();
    let finish = match done[0].finish {
        Finish::Caller if stopped => "stop",
        Finish::Caller => "stopped",
        _ if !going || !flushed => "stopped",
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

/// Refuses settings that are none.
fn check_sampling(request: &Request<'_>) -> Result<(), Failure> {
    if let Sampling::Draw { temperature, top_p, .. } = request.sampling {
        if !temperature.is_finite() || temperature <= 0.0 {
            return Err(Failure::Policy(format!(
                "--temperature: {temperature}, expected above 0; leave it out for the most likely token"
            )));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Failure::Policy(format!("--top-p: {top_p}, expected above 0, at most 1")));
        }
    }
    if request.stop.iter().any(String::is_empty) {
        return Err(Failure::Policy("--stop: an empty text, which ends every continuation; leave it out".into()));
    }
    Ok(())
}

/// Texts that end a continuation, which begins at byte `from`.
struct Stops<'a> {
    texts: &'a [String],
    from: usize,
}

impl Stops<'_> {
    /// Where the first of them begins.
    fn found(&self, text: &[u8]) -> Option<usize> {
        let continuation = &text[self.from..];
        let place = |stop: &String| continuation.windows(stop.len()).position(|window| window == stop.as_bytes());
        self.texts.iter().filter_map(place).min().map(|place| self.from + place)
    }

    /// Bytes at the end that may become one of them.
    fn held(&self, text: &[u8]) -> usize {
        let continuation = &text[self.from..];
        let begun = |stop: &String| {
            let most = stop.len().min(continuation.len());
            (1..=most).rev().find(|&length| continuation.ends_with(&stop.as_bytes()[..length])).unwrap_or(0)
        };
        self.texts.iter().map(begun).max().unwrap_or(0)
    }
}

/// Tokens to bytes, in the way of a typewriter.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    previous: Option<u32>,
    text: Vec<u8>,
    /// Bytes of the text that are written.
    written: usize,
    write: &'a mut dyn FnMut(&[u8]) -> bool,
}

impl Stream<'_> {
    /// Adds a token's bytes to the text.
    fn read(&mut self, token: u32) {
        let special = [self.tokenizer.bos(), self.tokenizer.eos()].contains(&Some(token));
        let bytes = if special { Vec::new() } else { self.tokenizer.decode_piece(self.previous, token) };
        self.previous = Some(token);
        self.text.extend_from_slice(&bytes);
    }

    fn push(&mut self, token: u32) -> bool {
        self.read(token);
        self.flush()
    }

    fn flush(&mut self) -> bool {
        self.flush_but(0)
    }

    /// Writes all but the last bytes.
    fn flush_but(&mut self, held: usize) -> bool {
        let end = self.text.len().saturating_sub(held).max(self.written);
        let going = (self.write)(&self.text[self.written..end]);
        self.written = end;
        going
    }
}

#[cfg(test)]
mod tests {
    use super::Stops;

    #[test]
    fn stop_texts_are_found_in_the_continuation_alone_and_held_back_while_they_may_come() {
        let texts = ["END".to_owned(), "\n\n".to_owned()];
        let stops = Stops { texts: &texts, from: 6 };
        let found = |text: &str| stops.found(text.as_bytes());
        assert_eq!(found("END\n\n one"), None, "what the prompt holds is no stop");
        assert_eq!(found("prompt one END two \n\n"), Some(11));
        assert_eq!(found("prompt one \n\n two END"), Some(11));
        assert_eq!(found("prompt"), None);
        let held = |text: &str| stops.held(text.as_bytes());
        assert_eq!((held("prompt"), held("prompt a"), held("prompt aE"), held("prompt aEN")), (0, 0, 1, 2));
        assert_eq!((held("prompt\n"), held("prompt aEx")), (1, 0));
    }
}
