//! temporary
use mellama_shards::*;
use mellama_shards::packing::*;
use mellama_shards::order::*;
use mellama_shards::mixture::*;
use mellama_shards::sequence::*;
use std::time::Instant;
fn main() {
    let mut s = 1u64;
    let mut r = move |b: u64| { s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (s >> 33) % b };
    let lengths: Vec<u32> = (0..65536).map(|_| 50 + r(550) as u32 + if r(20) == 0 { 9000 } else { 0 }).collect();
    let t = Instant::now();
    let packed = pack_window(&lengths, 4096, Method::BestFit);
    println!("pack 65536 docs {:?} -> {} seqs", t.elapsed(), packed.len());
    let docs: Vec<Vec<u32>> = lengths.iter().take(8000).map(|&l| (0..l).map(|_| { let x = r(32000); let y = r(32000); (x * y / 32000) as u32 }).collect()).collect();
    let l2: Vec<u32> = docs.iter().map(|d| d.len() as u32).collect();
    let runs: Vec<RunTokens> = docs.iter().enumerate().map(|(i, d)| RunTokens { tokens: d, mask: None, document: document_key("pubmed", &i.to_string(), 1), source: 0, epoch: 0 }).collect();
    let header = ShardHeader { format_version: 1, kind: Kind::Cpt, sequence_length: 4096, vocabulary_size: 32000, width: Width::U16, tokenizer_digest: "ab".repeat(32), sources: vec!["pubmed".into()], sensitivity: "open".into() };
    let seqs: Vec<Sequence> = pack_window(&l2, 4096, Method::BestFit).iter().map(|p| assemble(p, &runs, 4096).unwrap()).collect();
    let t = Instant::now();
    let mut w = ShardWriter::new(Vec::new(), &header).unwrap();
    for q in &seqs { w.push(q).unwrap(); }
    let (bytes, n) = w.finish().unwrap();
    let e = t.elapsed();
    println!("write {n} seqs {:?}: {:.1} MB/s of u16, {} bytes", e, n as f64 * 8192. / 1e6 / e.as_secs_f64(), bytes.len());
    std::fs::write("/tmp/x.parquet", &bytes).unwrap();
    let bytes = bytes::Bytes::from(bytes);
    let f = ShardFile::open("x", bytes).unwrap();
    let t = Instant::now();
    let back = f.read_rows(0..n).unwrap();
    let e = t.elapsed();
    println!("read {:?}: {:.1} MB/s of u16, equal {}", e, n as f64 * 8192. / 1e6 / e.as_secs_f64(), back == seqs);
    let t = Instant::now();
    verify_shard(&f).unwrap();
    println!("verify {:?}", t.elapsed());
    let runs: Vec<Run> = (0..1_000_000u32).map(|i| Run { object: 0, row: i, tokens: 50 + r(500) as u32, key: document_key("p", &i.to_string(), 1), source: 0 }).collect();
    let total: u64 = runs.iter().map(|r| u64::from(r.tokens)).sum();
    let share = SourceShare { source: "p".into(), domain: 0, supply: total, quota: total * 3 / 2, full_epochs: 1, remainder: total * 3 / 2 - total };
    let t = Instant::now();
    println!("order {} placed in {:?}", order_domain(1, vec![runs], &[share]).unwrap().len(), t.elapsed());
    let hi = ShardHeader { kind: Kind::Instruct, vocabulary_size: 128_256, width: Width::U32, ..header };
    let mut w = ShardWriter::new(Vec::new(), &hi).unwrap();
    for q in &seqs[..300] { let mut q = q.clone(); let n = q.filled(); q.loss_mask = Some((0..4096).map(|i| i < n && i % 3 == 0).collect()); w.push(&q).unwrap(); }
    std::fs::write("/tmp/y.parquet", w.finish().unwrap().0).unwrap();
    let mut w = RunWriter::new(Vec::new(), Vec::new(), &RunHeader { format_version: 1, source: "pubmed".into(), vocabulary_size: 32000, width: Width::U16, tokenizer_digest: "ab".repeat(32) }).unwrap();
    for (i, d) in docs.iter().enumerate() { w.push(NewRun { key: document_key("pubmed", &i.to_string(), 1), id: &format!("pubmed:{i}"), heldout: i % 200 == 0, tokens: d }).unwrap(); }
    std::fs::write("/tmp/z.parquet", w.finish().unwrap().1).unwrap();
}
