//! Sealed JSON: a small object whose last member is the BLAKE3 of every byte before that member, so that one changed byte
//! anywhere in it is found. Compact, UTF-8, no byte after the closing brace; it guards against damage, not against forgery.
//!
//! ```text
//! {"plan":"7f3a…","task":7,…,"seal":"<64 lowercase hex digits: BLAKE3 of all bytes before the quote that opens "seal">"}
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

const OPENING: &[u8] = b"\"seal\":\"";
const CLOSING: &[u8] = b"\"}";
const HEX_DIGITS: usize = 64;
/// Length in bytes of the `"seal":"…"}` that ends every sealed object.
const SEAL_BYTES: usize = OPENING.len() + HEX_DIGITS + CLOSING.len();

/// Why bytes are not a sealed object of the wanted type. It quotes nothing of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The value to be sealed is no JSON object, has a `seal` of its own, or cannot be written as JSON.
    #[error("value: cannot be sealed: {problem}")]
    Unsealable {
        /// What is wrong with the type.
        problem: String,
    },
    /// The bytes do not end in a seal.
    #[error("no seal at byte {offset}; the object was cut or changed")]
    NotSealed {
        /// Where the seal should begin, in bytes.
        offset: u64,
    },
    /// The seal is not that of the bytes before it.
    #[error("seal {sealed}, BLAKE3 of the bytes before it {computed}; the object was changed")]
    Broken {
        /// The seal that is there, its first 16 digits.
        sealed: String,
        /// The seal that should be, its first 16 digits.
        computed: String,
    },
    /// The seal holds, but the members are not those of the wanted type: another format version wrote it.
    #[error("line {line} column {column}: {problem} error; another version of the program wrote it")]
    Shape {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// "syntax", "data" or "end of file".
        problem: &'static str,
    },
}

/// Writes `value` compactly, members in the order of the struct, and seals it.
///
/// # Errors
/// [`SealError::Unsealable`] when `value` is not a JSON object or has a member `seal`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SealError> {
    let unsealable = |problem: &str| SealError::Unsealable { problem: problem.to_owned() };
    let mut bytes = serde_json::to_vec(value).map_err(|error| unsealable(problem_of(&error)))?;
    if bytes.first() != Some(&b'{') || bytes.pop() != Some(b'}') {
        return Err(unsealable("it is not a JSON object"));
    }
    if bytes.len() > 1 {
        bytes.push(b',');
    }
    let seal = blake3::hash(&bytes).to_hex();
    bytes.extend_from_slice(OPENING);
    bytes.extend_from_slice(seal.as_bytes());
    bytes.extend_from_slice(CLOSING);
    // A second member of that name would be lost, or shadow the seal for other readers.
    let members: serde_json::Value = decode(&bytes)?;
    if members.get("seal").is_some() {
        return Err(unsealable("it has a member \"seal\" of its own"));
    }
    Ok(bytes)
}

/// Checks the seal and reads the members before it.
///
/// # Errors
/// [`SealError`] when one byte differs from what [`encode`] wrote, or when the members are not those of `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SealError> {
    let body = check(bytes)?;
    let mut json = body.strip_suffix(b",").unwrap_or(body).to_vec();
    json.push(b'}');
    serde_json::from_slice(&json).map_err(|error| SealError::Shape {
        line: error.line(),
        column: error.column(),
        problem: problem_of(&error),
    })
}

/// Checks the seal alone and returns the bytes before it.
fn check(bytes: &[u8]) -> Result<&[u8], SealError> {
    let offset = bytes.len().saturating_sub(SEAL_BYTES);
    let (body, seal) = bytes.split_at(offset);
    let hex = seal.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(CLOSING));
    let Some(hex) = hex.filter(|hex| hex.len() == HEX_DIGITS) else {
        return Err(SealError::NotSealed { offset: offset as u64 });
    };
    let computed = blake3::hash(body).to_hex();
    if hex == computed.as_bytes() {
        return Ok(body);
    }
    let sealed = String::from_utf8_lossy(&hex[..16]).escape_debug().to_string();
    Err(SealError::Broken { sealed, computed: computed[..16].to_owned() })
}

/// The class of a JSON error; its own text may quote a value.
fn problem_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "writing",
        serde_json::error::Category::Syntax => "syntax",
        serde_json::error::Category::Data => "data",
        serde_json::error::Category::Eof => "end of file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        zulu: u64,
        alpha: String,
    }

    fn small() -> Small {
        Small { zulu: 7, alpha: "a\"b".into() }
    }

    #[test]
    fn golden_members_keep_their_order_and_the_seal_is_the_hash_of_what_precedes_it() {
        let bytes = encode(&small()).unwrap();
        let body = b"{\"zulu\":7,\"alpha\":\"a\\\"b\",";
        let expected = [body.as_slice(), b"\"seal\":\"", blake3::hash(body).to_hex().as_bytes(), b"\"}"].concat();
        assert_eq!(bytes, expected);
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["zulu"], 7);
        assert_eq!(decode::<Small>(&bytes).unwrap(), small());
    }

    #[test]
    fn every_change_of_every_byte_is_found() {
        let bytes = encode(&json!({"a": [1, 2.5, null], "facts": {"é": "ü"}})).unwrap();
        for position in 0..bytes.len() {
            for change in 1..=255 {
                let mut changed = bytes.clone();
                changed[position] ^= change;
                assert!(decode::<Value>(&changed).is_err(), "byte {position} ^ {change:#04x}");
            }
        }
    }

    #[test]
    fn every_cut_and_every_added_byte_is_found() {
        let bytes = encode(&small()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode::<Value>(&bytes[..length]).is_err(), "{length}");
        }
        for added in [b" ".as_slice(), b"\n", b"}"] {
            assert!(decode::<Value>(&[bytes.as_slice(), added].concat()).is_err());
            assert!(decode::<Value>(&[added, bytes.as_slice()].concat()).is_err());
        }
    }

    #[test]
    fn only_objects_without_a_seal_can_be_sealed() {
        let check = |value: Value, sealable: bool| assert_eq!(encode(&value).is_ok(), sealable, "{value}");
        check(json!({}), true);
        check(json!({"a": {"seal": 1}}), true);
        check(json!({"seal": 1}), false);
        check(json!([1]), false);
        check(json!("{}"), false);
        check(json!(null), false);
    }

    #[test]
    fn an_empty_object_comes_back() {
        assert_eq!(decode::<Value>(&encode(&json!({})).unwrap()).unwrap(), json!({}));
    }

    #[test]
    fn errors_quote_no_value() {
        let bytes = encode(&json!({"zulu": "canary text", "alpha": "x"})).unwrap();
        let message = decode::<Small>(&bytes).unwrap_err().to_string();
        assert!(!message.contains("canary"), "{message}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            assert!(decode::<Value>(&bytes).is_err());
        }

        #[test]
        fn any_strings_and_numbers_come_back(zulu in any::<u64>(), alpha: String) {
            let value = Small { zulu, alpha };
            assert_eq!(decode::<Small>(&encode(&value).unwrap()).unwrap(), value);
        }
    }
}
