//! The planner against the reference: every figure of `plan_oracle.py --json`, integers exactly, the rest to 1e-12.

use std::collections::BTreeMap;

use serde_json::Value;

use super::choice::Wanted;
use super::{
    A100, ElementSizes, H200, Layout, Machine, TokenFlops, Trained, WarningKind, Zero, activation_bytes, adapter_memory_need,
    choose, data_parallel_bytes, elementwise_bytes, gpu_hours, memory_need, step_parts, step_time, tensor_parallel_bytes,
};
use crate::engine::Recompute;
use crate::lora::LoraSpec;
use crate::shape::Shape;

const MODES: [(&str, Recompute); 4] =
    [("NONE", Recompute::None), ("SEL_A", Recompute::SelA), ("SEL_B", Recompute::SelB), ("FULL", Recompute::Full)];

/// The reference's output, as it is printed.
const ORACLE: &str = include_str!("../../../tests/parity/models/plan-oracle.json");

fn shape(name: &str) -> Shape {
    let named = match name {
        "7B" => "llama-2-7b",
        "13B" => "llama-2-13b",
        _ => "llama-2-70b",
    };
    Shape::named(named, 32_000).unwrap()
}

/// Figures computed, to be crossed out against the reference's.
#[derive(Default)]
struct Figures(BTreeMap<String, Value>);

impl Figures {
    fn put(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        assert!(self.0.insert(key.into(), value.into()).is_none());
    }
}

fn layout(zero: u8, tensor_parallel: u64, data_parallel: u64) -> Layout {
    Layout { zero: zero.try_into().unwrap(), tensor_parallel, data_parallel, sizes: ElementSizes::default() }
}

fn shapes(figures: &mut Figures) {
    for name in ["7B", "13B", "70B"] {
        let shape = shape(name);
        let flops = TokenFlops::of(&shape, 4096);
        figures.put(format!("{name}.params"), shape.parameter_count());
        figures.put(format!("{name}.matmul_params"), shape.matrix_parameter_count());
        figures.put(format!("{name}.flops_palm"), flops.palm);
        figures.put(format!("{name}.flops_causal"), flops.causal);
        figures.put(format!("{name}.lora1"), LoraSpec { rank: 1, ..LoraSpec::default() }.parameter_count(&shape));
        for (mode, recompute) in MODES {
            figures.put(format!("{name}.act.{mode}"), activation_bytes(&shape, recompute));
        }
    }
    let lengths = [vec![4096; 2], vec![512; 8], vec![128; 32]].concat();
    figures.put("7B.flops_packed_example", TokenFlops::packed(&shape("7B"), &lengths));
}

fn memory(figures: &mut Figures) {
    let check = |figures: &mut Figures, name: &str, layout: Layout, tokens: u64, mode: Recompute| {
        let model = name.split(' ').next().unwrap();
        let need = memory_need(&shape(model), layout, tokens, mode);
        figures.put(format!("mem.{name}.{tokens}"), need.total_bytes);
    };
    let (sel_a, sizes) = (Recompute::SelA, ElementSizes::default());
    let halved = |layout: Layout| Layout { sizes: ElementSizes { gradients: 2.0, ..sizes }, ..layout };
    let split = Layout { sizes: ElementSizes { master: 2.0, ..sizes }, ..layout(0, 1, 1) };
    check(figures, "7B  1xH200", layout(0, 1, 1), 4096, sel_a);
    check(figures, "7B  1xH200 split master", split, 8192, sel_a);
    check(figures, "7B  8xA100 ZeRO-1", layout(1, 1, 8), 4096, sel_a);
    check(figures, "13B 8xA100 ZeRO-2", layout(2, 1, 8), 4096, sel_a);
    check(figures, "13B 8xA100 ZeRO-3", layout(3, 1, 8), 4096, sel_a);
    check(figures, "13B 8xA100 TP2 ZeRO-1", layout(1, 2, 4), 4096, sel_a);
    check(figures, "13B 160xA100 TP2 ZeRO-1", layout(1, 2, 80), 4096, sel_a);
    check(figures, "70B 160xA100 TP8 ZeRO-1", layout(1, 8, 20), 4096, sel_a);
    check(figures, "70B 32xA100 TP8 ZeRO-1", layout(1, 8, 4), 4096, sel_a);
    check(figures, "70B 32xA100 TP8 ZeRO-1 bf16 g", halved(layout(1, 8, 4)), 4096, sel_a);
    check(figures, "70B 32xA100 TP8 ZeRO-2", layout(2, 8, 4), 4096, sel_a);
    check(figures, "70B 16xA100 TP8 ZeRO-1 bf16 g", halved(layout(1, 8, 2)), 4096, Recompute::SelB);
    check(figures, "70B 160xA100 ZeRO-3", layout(3, 1, 160), 4096, Recompute::SelB);
    let lora = LoraSpec { rank: 8, ..LoraSpec::default() };
    for (name, width, tokens, mode) in [
        ("70B LoRA 1xH200", 1, 4096, Recompute::Full),
        ("70B LoRA 1xH200", 1, 2048, Recompute::Full),
        ("70B LoRA 2xH200 TP2", 2, 4096, sel_a),
        ("70B LoRA 4xA100 TP4", 4, 4096, sel_a),
    ] {
        let need = adapter_memory_need((&shape("70B"), &lora), layout(0, width, 1), tokens, mode);
        figures.put(format!("mem.{name}.{tokens}"), need.total_bytes);
    }
}

fn rates(figures: &mut Figures) {
    for (name, model, rate, peak) in [
        ("fms-fsdp 7B 128xA100", "7B", 4550.0, 312e12),
        ("fms-fsdp 7B long run", "7B", 3700.0, 312e12),
        ("fms-fsdp 13B 128xA100", "13B", 2150.0, 312e12),
        ("fms-fsdp 70B 128xA100", "70B", 410.0, 312e12),
        ("fms-fsdp 7B 96xH100", "7B", 9600.0, 989e12),
        ("fms-fsdp 13B 96xH100", "13B", 4850.0, 989e12),
        ("fms-fsdp 70B 96xH100", "70B", 890.0, 989e12),
        ("NeMo fp8 7B 8xH100", "7B", 16934.0, 989e12),
        ("NeMo fp8 13B 16xH100", "13B", 8715.0, 989e12),
        ("NeMo fp8 70B 64xH100", "70B", 1728.0, 989e12),
    ] {
        figures.put(format!("mfu.{name}"), TokenFlops::of(&shape(model), 4096).palm as f64 * rate / peak);
    }
    for model in ["13B", "70B"] {
        for utilization in [0.30, 0.40, 0.45, 0.50, 0.55, 0.60] {
            let hours = gpu_hours(&shape(model), 129e9, utilization, 312e12, 4096);
            figures.put(format!("paper.{model}.{utilization:.2}"), hours);
        }
    }
    for length in [2048, 4096] {
        let implied = 129e9 * TokenFlops::of(&shape("70B"), length).palm as f64 / 3.6e8 / 312e12;
        figures.put(format!("paper.implied.{length}"), implied);
    }
    for rate in [420, 440, 450] {
        figures.put(format!("paper.rate.{rate}"), 129e9 / f64::from(rate) / 3600.0);
    }
}

fn rooflines(figures: &mut Figures) {
    let seven = shape("7B");
    let wgmma = Machine { attention_forward_flops: 560e12, attention_backward_flops: 450e12, ..H200 };
    let best = Machine {
        gemm_flops: 760e12,
        memory_rate: 4.3e12,
        attention_forward_flops: 600e12,
        attention_backward_flops: 500e12,
        ..H200
    };
    for (name, machine, tokens, layout) in [
        ("H200 mma.sync", H200, 8192, layout(0, 1, 1)),
        ("H200 wgmma", wgmma, 8192, layout(0, 1, 1)),
        ("H200 best case", best, 8192, layout(0, 1, 1)),
        ("A100 ZeRO-1 over 8", A100, 4096, layout(1, 1, 8)),
    ] {
        for (mode, recompute) in MODES {
            let parts = step_parts(&seven, &machine, (tokens, 4096), recompute, layout, 8);
            figures.put(format!("roof.{name}.{mode}"), tokens as f64 / parts.total());
        }
    }
    let parts = step_parts(&seven, &H200, (8192, 4096), Recompute::SelA, layout(0, 1, 1), 8);
    let lora = 8192.0 / (parts.gemm * 2.0 / 3.0 + parts.attention + parts.elementwise + parts.recompute);
    figures.put("roof.lora", lora);
    let mut sum = 0.0;
    for (name, bytes) in elementwise_bytes(&seven) {
        figures.put(format!("elem.{name}"), whole(bytes * 8192.0));
        sum += bytes;
    }
    figures.put("elem.sum", whole(sum * 8192.0));
}

/// Bytes that the reference counts in whole numbers.
fn whole(bytes: f64) -> u64 {
    assert!(bytes.fract() == 0.0);
    bytes as u64
}

fn cluster(figures: &mut Figures) {
    let (seventy, sharded) = (shape("70B"), layout(1, 8, 20));
    for (times, regather) in [(8, false), (10, true)] {
        let bytes = tensor_parallel_bytes(&seventy, 4096, 8, regather);
        figures.put(format!("tp_bytes.{times}"), bytes);
        for hidden in [0.0, 0.7] {
            let mut time = step_time((&seventy, Trained::ALL), &A100, (4096, 4096), Recompute::SelA, sharded, (16, hidden));
            if !regather {
                let less = 16.0 * (1.0 - hidden) * (time.tensor_parallel_bytes - bytes) / A100.node_rate;
                time.tokens_per_second_per_gpu *= time.seconds / (time.seconds - less);
            }
            figures.put(format!("cluster.70B.{times}.{hidden:?}"), time.tokens_per_second_per_gpu);
        }
    }
    figures.put("zero3.70B.160", data_parallel_bytes(&seventy, layout(3, 1, 160)));
}

#[test]
fn golden_every_figure_of_the_reference_planner() {
    let mut figures = Figures::default();
    for part in [shapes, memory, rates, rooflines, cluster] {
        part(&mut figures);
    }
    let oracle: BTreeMap<String, Value> = serde_json::from_str(ORACLE).unwrap();
    let keys = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&figures.0), keys(&oracle));
    for (key, expected) in &oracle {
        let got = &figures.0[key];
        if expected.is_u64() {
            assert_eq!(got, expected, "{key}");
        } else {
            let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((got / expected - 1.0).abs() < 1e-12, "{key}: {got} {expected}");
        }
    }
}

fn wanted<'a>(shape: &'a Shape, machine: &'a Machine, gpus: u64, length: u64) -> Wanted<'a> {
    Wanted {
        shape,
        machine,
        gpus,
        length,
        batch_sequences: 1024,
        lora: None,
        tensor_parallel: None,
        zero: None,
        micro_batch_sequences: None,
        recompute: None,
        moments: None,
    }
}

#[test]
fn recommended_layouts_are_found() {
    let check = |name: &str, machine: &Machine, gpus: u64, expected: (u64, u8, Recompute, f64, f64)| {
        let shape = shape(name);
        let chosen = choose(&wanted(&shape, machine, gpus, 4096));
        let sizes = chosen.layout.sizes;
        let got = (chosen.layout.tensor_parallel, chosen.layout.zero.into(), chosen.recompute, sizes.master, sizes.gradients);
        assert_eq!(got, expected, "{name} on {gpus} {}", machine.name);
        assert!(chosen.fits, "{name} on {gpus} {}", machine.name);
    };
    check("70B", &A100, 160, (8, 1, Recompute::SelA, 4.0, 4.0));
    check("13B", &A100, 160, (2, 1, Recompute::SelA, 4.0, 4.0));
    check("13B", &A100, 8, (2, 1, Recompute::SelA, 4.0, 4.0));
    check("7B", &A100, 8, (1, 1, Recompute::SelA, 4.0, 4.0));
    check("7B", &H200, 1, (1, 0, Recompute::SelA, 4.0, 4.0));
    // A split master is enough, by a hair.
    check("70B", &A100, 32, (8, 1, Recompute::SelA, 2.0, 4.0));
}

#[test]
fn what_does_not_fit_or_divide_is_warned_of() {
    let seventy = shape("70B");
    let kinds = |wanted: &Wanted<'_>| choose(wanted).warnings.iter().map(|warning| warning.kind).collect::<Vec<_>>();
    let on_160 = wanted(&seventy, &A100, 160, 4096);
    assert_eq!(kinds(&on_160), [WarningKind::UnevenBatch, WarningKind::AssumedRates]);
    let text = &choose(&on_160).warnings[0].text;
    assert!(text.contains("1.5 % of the time is idle; 1040 divide"), "{text}");
    assert_eq!(kinds(&Wanted { batch_sequences: 1040, ..on_160 }), [WarningKind::AssumedRates]);
    assert!(kinds(&wanted(&seventy, &A100, 1, 4096)).contains(&WarningKind::DoesNotFit));
    assert!(kinds(&wanted(&seventy, &A100, 32, 4096)).contains(&WarningKind::NoMargin));
    let odd = Wanted { tensor_parallel: Some(8), ..wanted(&seventy, &A100, 163, 4096) };
    assert!(kinds(&odd).contains(&WarningKind::UnusedGpus));
}

#[test]
fn adapters_cost_two_of_three_products_and_hardly_an_update() {
    let seven = shape("7B");
    let lora = LoraSpec::default();
    let full = choose(&wanted(&seven, &A100, 8, 4096)).time;
    let fixed = Wanted { lora: Some(&lora), recompute: Some(Recompute::SelA), ..wanted(&seven, &A100, 8, 4096) };
    let adapters = choose(&fixed).time;
    assert!((adapters.micro_batch.gemm / full.micro_batch.gemm - 2.0 / 3.0).abs() < 1e-12);
    assert!(adapters.micro_batch.optimizer < full.micro_batch.optimizer / 100.0);
    assert!(adapters.data_parallel_bytes < full.data_parallel_bytes / 100.0 && adapters.seconds < full.seconds);
}

#[test]
fn what_is_fixed_stays() {
    let seven = shape("7B");
    let fixed = Wanted {
        tensor_parallel: Some(4),
        zero: Some(Zero::Weights),
        micro_batch_sequences: Some(3),
        recompute: Some(Recompute::Full),
        ..wanted(&seven, &A100, 16, 2048)
    };
    let chosen = choose(&fixed);
    assert_eq!((chosen.layout.tensor_parallel, chosen.layout.data_parallel, chosen.layout.zero), (4, 4, Zero::Weights));
    assert_eq!((chosen.micro_batch_sequences, chosen.recompute, chosen.accumulation), (3, Recompute::Full, 86));
    let free = choose(&wanted(&seven, &A100, 16, 2048));
    assert_eq!(free.micro_batch_sequences, 2, "4,096 tokens at once");
}
