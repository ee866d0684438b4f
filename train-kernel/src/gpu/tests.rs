//! Operations against their twins on the processor, through the emulated card.

mod faults;
mod recorded;

use crate::gpu::check::Checks;
use crate::gpu::emulated::{Emulated, is_available};
use crate::gpu::{Gpu, Properties, Unopened};
use crate::shape::Shape;

/// Whether kernels can be emulated here; says so when not.
fn emulated() -> bool {
    let available = is_available();
    if !available {
        println!("not run: there is no C++ compiler");
    }
    available
}

/// Runs a check, prints its table, and runs it again with other orders of threads and blocks: the same bits.
fn check(name: &str, orders: u64) {
    if !emulated() {
        return;
    }
    let run = |first: u64| {
        let checks = Checks { card: &move |order| Emulated::new(first * 1000 + order), poison: false, seed: 11 };
        let (_, check) = checks.all().into_iter().find(|(known, _)| *known == name).unwrap();
        check(&checks)
    };
    let findings = run(0);
    assert!(!findings.is_empty(), "{name}: nothing was compared");
    let mut worst = std::collections::BTreeMap::<&str, (f64, f64)>::new();
    for finding in &findings {
        let entry = worst.entry(finding.operation).or_default();
        *entry = (entry.0.max(finding.share_of_bound), entry.1.max(finding.relative));
    }
    for (operation, (share, relative)) in worst {
        println!("| {operation} | {share:.2} | {relative:.1e} |");
    }
    for order in 1..orders {
        assert!(run(order) == findings, "{name}: other bits in another order of threads and blocks");
    }
}

#[test]
fn heads_of_128_are_refused_where_blocks_have_too_little_shared_memory() {
    let new = |shared_bytes: u32, head_width: usize| {
        let memory_bytes = 1 << 35;
        let card = Properties { name: "L40S".to_owned(), capability: (8, 9), multiprocessors: 142, memory_bytes, shared_bytes };
        let shape = Shape { width: 2 * head_width, heads: 2, kv_heads: 2, ..Shape::named("tiny", 50).unwrap() };
        Gpu::new(Unopened(card), &shape).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!((new(101_376, 64), new(166_912, 128)), (Ok(()), Ok(())));
    let told = new(101_376, 128).unwrap_err();
    assert!(told.contains("head width: got 128, kernels take 64 where a block has less than 161 KiB"), "{told}");
}

#[test]
fn embedding_equals_its_twin() {
    check("embedding", 4);
}

#[test]
fn norms_equal_their_twin() {
    check("norm", 4);
    check("frozen norm", 4);
}

#[test]
fn cross_entropy_equals_its_twin() {
    check("cross-entropy", 4);
}

#[test]
fn elementwise_operations_equal_their_twins() {
    for name in ["conversion", "gated activation", "extreme gates", "rotation", "dropout"] {
        check(name, 4);
    }
}

#[test]
fn updates_equal_their_twin() {
    check("update", 4);
    check("every pattern of a weight", 2);
    check("moments in bf16", 4);
    check("update of what is no number", 4);
}

#[test]
fn attention_equals_its_twin() {
    check("attention", 4);
}

#[test]
fn attention_whose_gradients_are_added_in_any_order_equals_its_twin() {
    check("attention in any order", 1);
}

#[test]
fn cached_attention_equals_its_twin() {
    check("cached attention", 4);
}

#[test]
fn a_model_trains_as_on_the_processor() {
    check("model", 1);
}
