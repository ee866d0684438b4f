//! Reads a `SentencePiece` `tokenizer.model`: the pieces and the settings that change ids. Models whose settings our
//! encoder doesn't reproduce exactly are refused with the setting's name. It doesn't encode.
//!
//! Field numbers are those of `sentencepiece_model.proto` (google/sentencepiece), as public models are written.

use super::bpe::{Piece, PieceKind, Rules, Vocabulary};
use super::protobuf::{Field, Fields, Value};
use super::{Refusal, VOCABULARY_MAX};

/// The character that `SentencePiece` writes for a space (U+2581).
pub(super) const SPACE_MARK: char = '\u{2581}';
/// Longest piece that is accepted, in bytes; `SentencePiece` trains pieces of at most 16 characters by default.
const PIECE_BYTES_MAX: usize = 256;

/// `trainer_spec.model_type` of a BPE model.
const MODEL_TYPE_BPE: u64 = 2;

/// What the settings messages say; the initial values are the defaults of the format.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the file format")]
struct Settings {
    model_type: u64,
    byte_fallback: bool,
    whitespace_as_suffix: bool,
    bos_piece: String,
    eos_piece: String,
    unknown_surface: String,
    dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
    character_map: bool,
}

/// Reads a model file.
///
/// # Errors
/// A [`Refusal`] for malformed files and for what the encoder doesn't reproduce.
pub(super) fn read(bytes: &[u8]) -> Result<Vocabulary, Refusal> {
    let mut settings = Settings {
        model_type: 1,
        byte_fallback: false,
        whitespace_as_suffix: false,
        bos_piece: "<s>".to_owned(),
        eos_piece: "</s>".to_owned(),
        unknown_surface: " \u{2047} ".to_owned(),
        dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
        character_map: false,
    };
    let mut pieces = Vec::new();
    let mut fields = Fields::new(bytes, 0);
    while let Some(field) = fields.next_field()? {
        let Value::Bytes(body) = field.value else {
            continue;
        };
        let base = fields.offset() - body.len() as u64;
        match field.number {
            1 => {
                if pieces.len() as u64 >= u64::from(VOCABULARY_MAX) {
                    return Err(Refusal::TooMany {
                        what: "pieces",
                        found: pieces.len() as u64 + 1,
                        limit: u64::from(VOCABULARY_MAX),
                    });
                }
                pieces.push(read_piece(body, base, pieces.len() as u32)?);
            }
            2 => read_trainer(body, base, &mut settings)?,
            3 => read_normalizer(body, base, &mut settings)?,
            5 => read_denormalizer(body, base, &mut settings)?,
            _ => {}
        }
    }
    check_settings(&settings)?;
    check_bytes(&pieces, settings.byte_fallback)?;
    let control_id = |text: &str| {
        let found = pieces.iter().position(|p| p.kind == PieceKind::Control && p.text == text);
        found.map(|id| id as u32)
    };
    Ok(Vocabulary {
        bos: control_id(&settings.bos_piece),
        eos: control_id(&settings.eos_piece),
        unknown_surface: settings.unknown_surface,
        rules: Rules {
            dummy_prefix: settings.dummy_prefix,
            remove_extra_spaces: settings.remove_extra_whitespaces,
            mark_is_space: true,
            merge_unlisted_characters: true,
        },
        pieces,
    })
}

/// `SentencePiece {piece = 1, score = 2, type = 3}`.
fn read_piece(body: &[u8], base: u64, id: u32) -> Result<Piece, Refusal> {
    let token = |reason| Refusal::Token { id, reason };
    let (mut text, mut score, mut kind) = ("", 0.0_f32, 1);
    let mut fields = Fields::new(body, base);
    while let Some(Field { number, value }) = fields.next_field()? {
        match (number, value) {
            (1, Value::Bytes(raw)) => {
                text = std::str::from_utf8(raw).map_err(|_| token("its text is not UTF-8"))?;
            }
            (2, Value::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Value::Varint(found)) => kind = found,
            _ => {}
        }
    }
    if text.is_empty() {
        return Err(token("its text is empty"));
    }
    if text.len() > PIECE_BYTES_MAX {
        return Err(token("its text is longer than 256 bytes"));
    }
    if !score.is_finite() {
        return Err(token("its score is not a finite number"));
    }
    let kind = match kind {
        1 => PieceKind::Normal,
        2 => PieceKind::Unknown,
        3 => PieceKind::Control,
        4 => {
            return Err(token("user-defined pieces are not supported, text could spell them"));
        }
        5 => return Err(token("unused pieces are not supported")),
        6 => {
            let byte = byte_of(text).ok_or_else(|| token("a byte piece must read <0xNN>"))?;
            PieceKind::Byte(byte)
        }
        _ => return Err(token("its type is none of the format's")),
    };
    if kind != PieceKind::Normal && text.chars().nth(1).is_none() {
        return Err(token("a control piece of a single character would be read from text"));
    }
    let text = match kind {
        PieceKind::Normal => text.replace(SPACE_MARK, " "),
        _ => text.to_owned(),
    };
    Ok(Piece { text, score, kind })
}

fn read_trainer(body: &[u8], base: u64, settings: &mut Settings) -> Result<(), Refusal> {
    let mut fields = Fields::new(body, base);
    while let Some(Field { number, value }) = fields.next_field()? {
        match (number, value) {
            (3, Value::Varint(found)) => settings.model_type = found,
            (24, Value::Varint(found)) => settings.whitespace_as_suffix = found != 0,
            (35, Value::Varint(found)) => settings.byte_fallback = found != 0,
            (44, Value::Bytes(raw)) => settings.unknown_surface = utf8(raw, fields.offset())?,
            (46, Value::Bytes(raw)) => settings.bos_piece = utf8(raw, fields.offset())?,
            (47, Value::Bytes(raw)) => settings.eos_piece = utf8(raw, fields.offset())?,
            _ => {}
        }
    }
    Ok(())
}

fn read_normalizer(body: &[u8], base: u64, settings: &mut Settings) -> Result<(), Refusal> {
    let mut fields = Fields::new(body, base);
    while let Some(Field { number, value }) = fields.next_field()? {
        match (number, value) {
            (2, Value::Bytes(map)) => settings.character_map |= !map.is_empty(),
            (3, Value::Varint(found)) => settings.dummy_prefix = found != 0,
            (4, Value::Varint(found)) => settings.remove_extra_whitespaces = found != 0,
            (5, Value::Varint(found)) => settings.escape_whitespaces = found != 0,
            _ => {}
        }
    }
    Ok(())
}

fn read_denormalizer(body: &[u8], base: u64, settings: &mut Settings) -> Result<(), Refusal> {
    let mut fields = Fields::new(body, base);
    while let Some(field) = fields.next_field()? {
        if let (2, Value::Bytes(map)) = (field.number, field.value) {
            settings.character_map |= !map.is_empty();
        }
    }
    Ok(())
}

fn check_settings(settings: &Settings) -> Result<(), Refusal> {
    let refuse = |setting: &str, reason| Err(Refusal::Setting { setting: setting.into(), reason });
    if settings.model_type != MODEL_TYPE_BPE {
        let found = match settings.model_type {
            1 => "unigram".to_owned(),
            3 => "word".to_owned(),
            4 => "char".to_owned(),
            other => other.to_string(),
        };
        return Err(Refusal::ModelType { found });
    }
    if settings.character_map {
        return refuse(
            "precompiled_charsmap",
            "a character map would change the text; only the identity normalizer is supported",
        );
    }
    if settings.whitespace_as_suffix {
        return refuse("treat_whitespace_as_suffix", "true is not supported");
    }
    if !settings.escape_whitespaces {
        return refuse("escape_whitespaces", "false is not supported");
    }
    Ok(())
}

/// Byte fallback needs exactly one piece for each of the 256 bytes; without it there may be none.
fn check_bytes(pieces: &[Piece], byte_fallback: bool) -> Result<(), Refusal> {
    let mut seen = [false; 256];
    for (id, piece) in pieces.iter().enumerate() {
        if let PieceKind::Byte(byte) = piece.kind {
            let id = id as u32;
            if !byte_fallback {
                return Err(Refusal::Token { id, reason: "a byte piece without byte_fallback" });
            }
            if std::mem::replace(&mut seen[usize::from(byte)], true) {
                return Err(Refusal::DuplicateToken { text: piece.text.clone(), id });
            }
        }
    }
    if byte_fallback && seen.contains(&false) {
        return Err(Refusal::Setting {
            setting: "byte_fallback".to_owned(),
            reason: "true without a piece for every one of the 256 bytes",
        });
    }
    // Its bytes would be those of U+2581, which the encoder does not see: a piece holds a plain space in its place.
    if byte_fallback && !pieces.iter().any(|piece| piece.kind == PieceKind::Normal && piece.text == " ") {
        return Err(Refusal::Setting {
            setting: "byte_fallback".to_owned(),
            reason: "true without a piece for the space, U+2581 alone",
        });
    }
    Ok(())
}

/// The byte of a piece that reads `<0xNN>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

fn utf8(raw: &[u8], offset: u64) -> Result<String, Refusal> {
    let text = std::str::from_utf8(raw);
    text.map(str::to_owned).map_err(|_| Refusal::Malformed { offset, what: "UTF-8" })
}
