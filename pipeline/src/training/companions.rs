//! Files that lie beside weights so that others know what to do with them: the tokenizer, and what transformers wants to be told of it.

use mellama_shards::Tokenizer;
use mellama_shards::template::Template;
use mellama_train::trainer::Companion;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;

/// Name of the file of transformers that names control tokens and holds the chat template.
const CONFIG: &str = "tokenizer_config.json";

/// File name under which a tokenizer lies beside weights.
pub(crate) fn tokenizer_file_name(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("model") => "tokenizer.model",
        Some("bin") => "tokenizer.bin",
        _ => "tokenizer.json",
    }
}

/// The tokenizer of the recipe; beside a `tokenizer.json`, which control tokens it has, how many positions there are, and how
/// conversations are written.
///
/// # Errors
/// Those of reading the tokenizer.
pub(super) fn of(context: &Context<'_>, positions: usize, template: Option<Template>) -> Result<Vec<Companion>, Failure> {
    let Some(file) = &context.plan.tokenizer else { return Ok(Vec::new()) };
    let (name, bytes) = (tokenizer_file_name(&file.name), file.read()?);
    let tokenizer = context.tokenizer()?;
    let config = (name == "tokenizer.json").then(|| config(&tokenizer, &bytes, positions, template)).flatten();
    let mut files = vec![Companion { name: name.to_owned(), bytes }];
    files.extend(config.map(|bytes| Companion { name: CONFIG.to_owned(), bytes }));
    Ok(files)
}

/// `tokenizer_config.json` beside a `tokenizer.json` of these bytes; none where its control tokens have no text.
fn config(tokenizer: &Tokenizer, bytes: &[u8], positions: usize, template: Option<Template>) -> Option<Vec<u8>> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    let added = file["added_tokens"].as_array()?;
    let text = |id: Option<u32>| {
        let token = added.iter().find(|token| id.is_some() && token["id"].as_u64() == id.map(u64::from))?;
        token["content"].as_str().map(str::to_owned)
    };
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_max_length": positions,
    });
    let members = config.as_object_mut()?;
    let control = [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos()), ("unk_token", tokenizer.unknown())];
    members.extend(control.into_iter().filter_map(|(name, id)| Some((name.to_owned(), Value::from(text(id)?)))));
    members.extend(template.map(|template| ("chat_template".to_owned(), Value::from(template.jinja()))));
    serde_json::to_vec_pretty(&config).ok()
}

#[cfg(test)]
mod tests {
    use mellama_shards::Tokenizer;
    use mellama_shards::template::Template;
    use serde_json::Value;

    use super::config;

    #[test]
    fn control_tokens_and_template_are_named() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tokenizer/tokenizer.json");
        let bytes = std::fs::read(path).unwrap();
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", &bytes).unwrap();
        let written = config(&tokenizer, &bytes, 512, Some(Template::Mellama)).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        let file: Value = serde_json::from_slice(&bytes).unwrap();
        let id = |name: &str| {
            let tokens = file["added_tokens"].as_array().unwrap();
            tokens.iter().find(|token| token["content"] == written[name]).and_then(|token| token["id"].as_u64())
        };
        assert_eq!(id("bos_token"), tokenizer.bos().map(u64::from));
        assert_eq!(id("eos_token"), tokenizer.eos().map(u64::from));
        assert_eq!(written["model_max_length"], 512);
        assert!(written["chat_template"].as_str().unwrap().contains("Assistant"));
    }
}
