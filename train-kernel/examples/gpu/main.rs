//! Checks and timings of a card, for `bench/gpu`: what is asked for, in this order, as one JSON object a line.
//!
//! ```text
//! gpu DEVICE SEED PART...
//!   DEVICE   card, or emulated: the same on the processor, to try the program without a card
//!   PART     list       the names of the checks
//!            check:NAME operations against the processor, on inputs of this seed
//!            ceilings   the rates that the card reaches: copies, and matrix products of cuBLASLt
//!            kernels    each operation at the sizes of LLaMA-2-7B, against those rates
//!            step:SHAPE:SEQUENCES:ACCUMULATION[:lora]   whole training steps of 4,096 tokens a sequence
//! ```

mod ceilings;
mod kernels;
mod step;
mod timing;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use mellama_train::gpu::Device;
use mellama_train::gpu::check::{Checks, Finding};
use mellama_train::gpu::cuda::{Card, CardOptions};
use mellama_train::gpu::emulated::Emulated;
use serde_json::{Value, json};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, seed, parts @ ..] = arguments.as_slice() else {
        return Err(
            "usage: gpu card|emulated SEED list|check:NAME|ceilings|kernels|step:SHAPE:SEQUENCES:ACCUMULATION[:lora] ...".into(),
        );
    };
    let seed = seed.parse()?;
    match device.as_str() {
        "card" => {
            // Checks compare runs on several cards bit for bit: none of them may choose its products by the clock.
            let open = |times_products| Card::open(0, CardOptions { times_products, ..CardOptions::default() });
            let card = open(false)?;
            println!(
                "{}",
                json!({ "card": describe(&card), "driver": card.driver_version().to_string(), "target": card.target().as_str() })
            );
            // It stays open, so that the cards of the checks find the driver's context made; they follow each other, and it holds
            // little but a workspace.
            let checked = |_| open(false).unwrap_or_else(|error| panic!("{error}"));
            run((&checked, &|_| open(true).unwrap_or_else(|error| panic!("{error}"))), (seed, true), parts)
        }
        "emulated" => run((&Emulated::new, &Emulated::new), (seed, false), parts),
        other => Err(format!("DEVICE: got {other}, expected card or emulated").into()),
    }
}

fn describe<D: Device>(card: &D) -> Value {
    let properties = card.properties();
    json!({
        "name": properties.name,
        "capability": format!("{}.{}", properties.capability.0, properties.capability.1),
        "multiprocessors": properties.multiprocessors,
        "memory_bytes": properties.memory_bytes,
    })
}

fn run<D: Device + 'static>(
    (checked, card): (&dyn Fn(u64) -> D, &dyn Fn(u64) -> D),
    (seed, poison): (u64, bool),
    parts: &[String],
) -> Result<ExitCode, Box<dyn Error>> {
    let mut wrong = 0;
    for part in parts {
        match part.as_str() {
            "list" => {
                let checks = Checks { card: checked, poison, seed };
                println!("{}", json!({ "list": checks.all().iter().map(|(name, _)| *name).collect::<Vec<_>>() }));
            }
            "ceilings" => println!("{}", json!({ "ceilings": ceilings::measure(card(0))? })),
            "kernels" => println!("{}", json!({ "kernels": kernels::measure(card)? })),
            other => match other.split_once(':') {
                Some(("check", name)) => wrong += check(&Checks { card: checked, poison, seed }, name),
                Some(("step", what)) => println!("{}", json!({ "step": step::measure(card(0), what)? })),
                _ => return Err(format!("PART: got {other}").into()),
            },
        }
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

/// Prints what a check found; returns how many found an operation wrong, or are not there.
fn check<D: Device + 'static>(checks: &Checks<'_, D>, wanted: &str) -> usize {
    let named: Vec<_> = checks.all().into_iter().filter(|(name, _)| *name == wanted).collect();
    let mut wrong = usize::from(named.is_empty());
    for (name, check) in named {
        let found = catch_unwind(AssertUnwindSafe(|| check(checks)));
        let line = match found {
            Ok(findings) => json!({ "check": name, "findings": findings.iter().map(finding).collect::<Vec<_>>() }),
            Err(panic) => {
                wrong += 1;
                let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = panic.downcast_ref::<String>().cloned().or(literal).unwrap_or_else(|| "panicked".to_owned());
                json!({ "check": name, "wrong": text })
            }
        };
        println!("{line}");
    }
    wrong
}

fn finding(finding: &Finding) -> Value {
    json!({
        "operation": finding.operation,
        "case": finding.case,
        "share_of_bound": finding.share_of_bound,
        "relative": finding.relative,
    })
}
