//! Tensor files written and read, and hostile ones refused.

use std::io::Cursor;

use super::{Dtype, TensorFile, TensorFileError, write_header, write_values};

fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    let tensors: [(&str, &[usize]); 3] = [("b", &[2, 2]), ("a", &[3]), ("empty", &[0, 4])];
    write_header("sample", &mut bytes, (&tensors, Dtype::F32), &[("format", "pt")]).unwrap();
    write_values("sample", &mut bytes, Dtype::F32, &[1.0, -2.0, f32::MIN_POSITIVE, -0.0]).unwrap();
    write_values("sample", &mut bytes, Dtype::F32, &[7.5, 8.5, f32::INFINITY]).unwrap();
    bytes
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn problem(bytes: Vec<u8>) -> String {
    match TensorFile::open("x", Cursor::new(bytes)) {
        Err(TensorFileError::Header { problem, .. }) => problem,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn what_is_written_is_read_back_bit_for_bit() {
    let mut file = TensorFile::open("sample", Cursor::new(sample())).unwrap();
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    let mut b = [0.0; 4];
    file.read("b", &[2, 2], &mut b).unwrap();
    assert_eq!(b.map(f32::to_bits), [1.0, -2.0, f32::MIN_POSITIVE, -0.0].map(f32::to_bits));
    let mut a = [0.0; 3];
    file.read("a", &[3], &mut a).unwrap();
    assert_eq!(a.map(f32::to_bits), [7.5, 8.5, f32::INFINITY].map(f32::to_bits));
    file.read("empty", &[0, 4], &mut []).unwrap();
}

#[test]
fn parity_the_safetensors_library_reads_the_same() {
    let bytes = sample();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = parsed.tensor("b").unwrap();
    assert_eq!((view.shape(), view.dtype()), (&[2_usize, 2][..], safetensors::Dtype::F32));
    assert_eq!(view.data()[..4], 1.0_f32.to_le_bytes());
    assert_eq!(parsed.len(), 3);
}

#[test]
fn half_types_are_written_rounded_to_even() {
    // In bf16 a tie that goes down, a tie that goes up, and what is above a tie; in f16 two exact values and one that is not.
    let (bf16, f16) = ([1.0, 1.0 + 2.0 / 128.0, 1.0 + 2.0 / 128.0], [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1.0 + 13.0 / 1024.0]);
    for (dtype, expected) in [(Dtype::BF16, bf16), (Dtype::F16, f16)] {
        let mut bytes = Vec::new();
        write_header("x", &mut bytes, (&[("t", &[3])], dtype), &[]).unwrap();
        write_values("x", &mut bytes, dtype, &[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1.0 + 3.0 / 256.0 + 0.001]).unwrap();
        let view = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(format!("{:?}", view.tensor("t").unwrap().dtype()), dtype.as_str());
        let mut file = TensorFile::open("x", Cursor::new(bytes)).unwrap();
        let mut out = [0.0; 3];
        file.read("t", &[3], &mut out).unwrap();
        assert_eq!(out.map(f32::to_bits), expected.map(f32::to_bits), "{dtype:?}: {out:?}");
        assert_eq!(dtype.round(1.0 + 1.0 / 256.0).to_bits(), expected[0].to_bits());
    }
}

#[test]
fn half_types_are_widened_exactly() {
    let header =
        r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}}"#;
    // f16: 1.5 = 0x3e00, -2^-24 = 0x8001; bf16: 1.5 = 0x3fc0, infinity = 0x7f80.
    let bytes = file(header, &[0x00, 0x3e, 0x01, 0x80, 0xc0, 0x3f, 0x80, 0x7f]);
    let mut opened = TensorFile::open("x", Cursor::new(bytes)).unwrap();
    let mut out = [0.0; 2];
    opened.read("h", &[2], &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.5, -(2.0_f32.powi(-24))].map(f32::to_bits));
    opened.read("b", &[2], &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.5, f32::INFINITY].map(f32::to_bits));
}

#[test]
fn case_35_hostile_headers_are_refused() {
    let check = |header: &str, data: usize, expected: &str| {
        let got = problem(file(header, &vec![0; data]));
        assert!(got.contains(expected), "{header}: {got}");
    };
    let one = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    check(&format!("{{{one},{one}}}"), 4, "occurs twice");
    check(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "occurs twice");
    check(&format!("{{{one}}}"), 8, "tensors end at 4, the data have 8");
    check(&format!("{{{one}}}"), 3, "ends at 4, the data have 3");
    check(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "leaves a gap");
    check(&format!(r#"{{{one},"b":{{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}}}"#), 6, "overlaps");
    check(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "has 4 bytes");
    check(r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#, 4, "has 4 bytes");
    check(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "header at line");
    check(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "leaves a gap");
    check(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}}"#, 4, "unknown field");
    check(&format!("{{\"__metadata__\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000)), 0, "header at line");
    check("[]", 0, "header at line");
}

#[test]
fn case_35_lengths_beyond_the_file_or_the_limit_are_refused() {
    assert!(problem(vec![0; 7]).contains("expected at least 8"));
    let mut huge = (1_u64 << 40).to_le_bytes().to_vec();
    huge.extend([b' '; 64]);
    assert!(problem(huge).contains("expected at most 64"));
    let sound = sample();
    for cut in 0..sound.len() {
        assert!(TensorFile::open("x", Cursor::new(sound[..cut].to_vec())).is_err(), "cut at {cut}");
    }
}

#[test]
fn wrong_shape_dtype_and_name_are_named() {
    let mut opened = TensorFile::open("sample", Cursor::new(sample())).unwrap();
    let message = opened.read("b", &[4], &mut [0.0; 4]).unwrap_err().to_string();
    assert!(message.contains("tensor b: shape [2, 2], expected [4]"), "{message}");
    assert!(matches!(opened.read("c", &[1], &mut [0.0]), Err(TensorFileError::Missing { .. })));
    let bytes = file(r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, &[0; 8]);
    let mut opened = TensorFile::open("x", Cursor::new(bytes)).unwrap();
    assert!(matches!(opened.read("a", &[1], &mut [0.0]), Err(TensorFileError::Dtype { .. })));
}

#[test]
fn a_name_is_written_once() {
    let tensors: [(&str, &[usize]); 2] = [("a", &[1]), ("a", &[1])];
    assert!(write_header("x", &mut Vec::new(), (&tensors, Dtype::F32), &[]).is_err());
}
