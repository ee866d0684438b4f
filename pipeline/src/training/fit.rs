//! Whether weights, tokenizer and data belong together. What does not fit is refused before any work, where it can be known.

use mellama_shards::format::ShardHeader;
use mellama_shards::{Tokenizer, TokenizerError};
use mellama_sources::Sensitivity;
use mellama_storage::StoreError;
use mellama_train::Shape;
use mellama_train::hf::{HfModel, ModelConfig};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::location::Location;

/// Bytes that two tokenizers are compared on at a time.
const PROBE_BYTES: usize = 4096;
/// Tokenizer files as they lie beside weights: one with the recipe's digest is enough, else the first one counts.
const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"];

/// Refuses a tokenizer with ids that the model has no embedding for.
///
/// # Errors
/// `Failure::Policy`.
pub(crate) fn check_fit(name: &str, model: &HfModel, tokenizer: &Tokenizer) -> Result<(), Failure> {
    check_size(name, model.shape.vocabulary, tokenizer)
}

/// Refuses a checkpoint that has not the shape that the recipe says it has. Positions may be others.
pub(super) fn check_named(checkpoint: &str, shape: &Shape, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    let wanted = Shape::named(name, shape.vocabulary).map_err(|e| Failure::Policy(chain(&e)))?;
    if (Shape { max_positions: shape.max_positions, ..wanted.clone() }) == *shape {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{checkpoint}: {} parameters, model.shape {name} has {} or other constants; name the shape that the checkpoint has, or leave it out",
        shape.parameter_count(),
        wanted.parameter_count()
    )))
}

fn check_size(name: &str, rows: usize, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let ids = tokenizer.vocabulary_size();
    if ids as usize == rows {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{name}: the checkpoint has {rows} tokens, the tokenizer has {ids}; give the tokenizer that the checkpoint was trained with"
    )))
}

/// Refuses a checkpoint whose configuration or tokenizer is not that of the recipe, without loading its weights. With `length`, the
/// longest sequences that it is to be trained on.
///
/// # Errors
/// `Failure::Policy`.
pub(crate) fn check_checkpoint(
    context: &Context<'_>,
    folder: &str,
    tokenizer: &Tokenizer,
    length: Option<u32>,
) -> Result<(), Failure> {
    let place = context.file.resolve(folder)?;
    let shown = place.join("config.json");
    let adapters = place.join("adapter_config.json").read(context.file.stores()).is_ok();
    let remedy = if adapters { "it holds adapters alone: give the folder merged/ in it" } else { "give a checkpoint folder" };
    let no_folder = |text: String| Failure::Policy(format!("{shown}: cannot be read: {text}; {remedy}"));
    let unreadable = |e: StoreError| Failure::passing_or(&e, no_folder);
    let bytes = shown.read(context.file.stores()).map_err(unreadable)?;
    let config = ModelConfig::parse(&bytes).map_err(|e| Failure::Policy(format!("{shown}: {}", chain(&e))))?;
    check_size(folder, config.shape.vocabulary, tokenizer)?;
    check_tokenizer(context, &place, tokenizer)?;
    if length.is_some() {
        let named = context.file.recipe.model.as_ref().and_then(|model| model.shape.as_deref());
        check_named(folder, &config.shape, named)?;
    }
    let positions = config.shape.max_positions;
    match length.filter(|length| *length as usize > positions) {
        None => Ok(()),
        Some(length) => Err(Failure::Policy(format!(
            "{folder}: the checkpoint knows {positions} positions, sequences have {length} tokens; lower corpus.pack.sequence_length or \
             instruct.sequence_length, or extend the checkpoint's max_position_embeddings on purpose"
        ))),
    }
}

/// Refuses a tokenizer that gives other ids than the one beside the weights. Weights without a tokenizer are taken as they are.
fn check_tokenizer(context: &Context<'_>, folder: &Location, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let mut there = Vec::new();
    for name in TOKENIZER_FILES {
        let file = folder.join(name);
        match file.read(context.file.stores()) {
            Ok(bytes) if blake3::hash(&bytes).to_hex().as_str() == tokenizer.digest() => return Ok(()),
            Ok(bytes) => there.push((file, bytes)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let Some((file, bytes)) = there.first() else { return Ok(()) };
    let refused = |e: TokenizerError| Failure::Policy(format!("{file}: {}", chain(&e)));
    let theirs = Tokenizer::from_bytes(&file.to_string(), bytes).map_err(refused)?;
    match first_difference(&theirs, tokenizer) {
        None => Ok(()),
        Some(difference) => Err(Failure::Policy(format!(
            "{file}: the checkpoint's tokenizer is not the recipe's: {difference}; give corpus.tokenizer.path this file"
        ))),
    }
}

/// Where two tokenizers first give different ids or bytes, in words.
fn first_difference(theirs: &Tokenizer, ours: &Tokenizer) -> Option<String> {
    if theirs.vocabulary_size() != ours.vocabulary_size() {
        return Some(format!("{} ids, the recipe's has {}", theirs.vocabulary_size(), ours.vocabulary_size()));
    }
    let control = [("BOS", theirs.bos(), ours.bos()), ("EOS", theirs.eos(), ours.eos())];
    if let Some((name, theirs, ours)) = control.into_iter().find(|(_, theirs, ours)| theirs != ours) {
        let shown = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
        return Some(format!("{name} is {}, the recipe's is {}", shown(theirs), shown(ours)));
    }
    // After a token that is no beginning, so that the space before a word counts.
    let after = (0..ours.vocabulary_size()).find(|id| !ours.decode_piece(None, *id).is_empty());
    let differs = |id: &u32| theirs.decode_piece(after, *id) != ours.decode_piece(after, *id);
    if let Some(id) = (0..ours.vocabulary_size()).find(differs) {
        return Some(format!("id {id} stands for other bytes"));
    }
    let encodes_alike = |text: &str| match (theirs.encode(text), ours.encode(text)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        (theirs, ours) => theirs.is_err() == ours.is_err(),
    };
    // Every piece as a word, so that each merge and each rule on characters has its part.
    let mut text = String::new();
    for id in 0..ours.vocabulary_size() {
        if let Ok(piece) = String::from_utf8(ours.decode_piece(after, id)) {
            text.push_str(&piece);
            text.push(' ');
        }
        if (text.len() > PROBE_BYTES || id + 1 == ours.vocabulary_size()) && !encodes_alike(&std::mem::take(&mut text)) {
            return Some(format!("text of the pieces up to id {id} gives other ids"));
        }
    }
    None
}

/// Refuses shards that are not for this model, or whose sensitivity is above what the checkpoints will say.
pub(super) fn check_shards(header: &ShardHeader, shape: &Shape, sensitivity: Sensitivity) -> Result<(), Failure> {
    let refuse = |what: &str, got: String, expected: String| {
        Err(Failure::Policy(format!("shards: {what} {got}, expected {expected}; train on the shards that this recipe published")))
    };
    if header.vocabulary_size as usize != shape.vocabulary {
        return refuse("vocabulary", header.vocabulary_size.to_string(), shape.vocabulary.to_string());
    }
    if header.sequence_length as usize > shape.max_positions {
        return refuse("sequences of", header.sequence_length.to_string(), format!("at most {} tokens", shape.max_positions));
    }
    let level = Sensitivity::from_name(&header.sensitivity).unwrap_or(Sensitivity::Phi);
    if level > sensitivity {
        return refuse("sensitivity", level.to_string(), format!("at most {sensitivity}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mellama_shards::format::{Kind, ShardHeader, Width};
    use mellama_sources::Sensitivity;
    use mellama_train::Shape;

    use super::check_shards;

    fn header() -> ShardHeader {
        ShardHeader {
            format_version: mellama_shards::format::FORMAT_VERSION,
            kind: Kind::Cpt,
            sequence_length: 64,
            vocabulary_size: 100,
            width: Width::U16,
            tokenizer_digest: "0".repeat(64),
            sources: vec!["notes".to_owned()],
            sensitivity: "dua".to_owned(),
        }
    }

    #[test]
    fn shards_of_another_model_or_above_the_sensitivity_are_refused() {
        let shape = Shape { max_positions: 64, ..Shape::named("tiny", 100).unwrap() };
        let check = |header: ShardHeader, sensitivity: Sensitivity, expected: Option<&str>| match (
            check_shards(&header, &shape, sensitivity),
            expected,
        ) {
            (Ok(()), None) => {}
            (Err(failure), Some(part)) => assert!(failure.to_string().contains(part), "{failure}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        };
        check(header(), Sensitivity::Dua, None);
        check(header(), Sensitivity::Phi, None);
        check(header(), Sensitivity::Open, Some("sensitivity dua, expected at most open"));
        check(ShardHeader { vocabulary_size: 99, ..header() }, Sensitivity::Dua, Some("vocabulary 99, expected 100"));
        check(
            ShardHeader { sequence_length: 65, ..header() },
            Sensitivity::Dua,
            Some("sequences of 65, expected at most 64 tokens"),
        );
        check(ShardHeader { sensitivity: "unheard".to_owned(), ..header() }, Sensitivity::Dua, Some("sensitivity phi"));
    }
}
