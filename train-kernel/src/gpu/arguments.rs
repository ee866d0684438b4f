//! The parameters of the kernels: the twins of the structs in `kernels/*.cu`, field by field.

use bytemuck::{NoUninit, Pod, Zeroable};

use super::device::Address;

/// What differs from one pass over a micro-batch to the next, in the card's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(super) struct PassScalars {
    pub(super) first_row: u64,
    pub(super) step: u32,
    pub(super) scale: f32,
}

/// What became of a step, in the card's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(super) struct DeviceJudgement {
    pub(super) norm: f64,
    pub(super) factor: f32,
    pub(super) finite: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Norm {
    pub(super) x: Address,
    pub(super) delta: Address,
    pub(super) sum: Address,
    pub(super) weight: Address,
    pub(super) out: Address,
    pub(super) rstd: Address,
    pub(super) width: u32,
    pub(super) epsilon: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct NormRebuild {
    pub(super) x: Address,
    pub(super) weight: Address,
    pub(super) rstd: Address,
    pub(super) out: Address,
    pub(super) width: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct NormBackward {
    pub(super) x: Address,
    pub(super) weight: Address,
    pub(super) rstd: Address,
    pub(super) dout: Address,
    pub(super) dx: Address,
    pub(super) partials: Address,
    pub(super) rows: u32,
    pub(super) width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct NormWeight {
    pub(super) partials: Address,
    pub(super) dweight: Address,
    pub(super) strips: u32,
    pub(super) width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Swiglu {
    pub(super) gate_up: Address,
    pub(super) out: Address,
    pub(super) packs: u32,
    pub(super) width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct SwigluBackward {
    pub(super) gate_up: Address,
    pub(super) dout: Address,
    pub(super) dgate_up: Address,
    pub(super) out: Address,
    pub(super) packs: u32,
    pub(super) width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Rotate {
    pub(super) fused: Address,
    pub(super) cosines: Address,
    pub(super) sines: Address,
    pub(super) positions: Address,
    pub(super) packs: u32,
    pub(super) row_width: u32,
    pub(super) turned_heads: u32,
    pub(super) sign: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct GatherRows {
    pub(super) from: Address,
    pub(super) rows: Address,
    pub(super) out: Address,
    pub(super) packs: u32,
    pub(super) width: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct EmbedBackward {
    pub(super) dout: Address,
    pub(super) order: Address,
    pub(super) tokens: Address,
    pub(super) runs: Address,
    pub(super) dtable: Address,
    pub(super) width: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Dropout {
    pub(super) pass: Address,
    pub(super) input: Address,
    pub(super) output: Address,
    pub(super) packs: u32,
    pub(super) width: u32,
    pub(super) key: [u32; 2],
    pub(super) place: u32,
    pub(super) threshold: u32,
    pub(super) factor: f32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct CrossEntropy {
    pub(super) pass: Address,
    pub(super) logits: Address,
    pub(super) targets: Address,
    pub(super) counted: Address,
    pub(super) losses: Address,
    pub(super) not_finite: Address,
    pub(super) vocabulary: u32,
    pub(super) gradient: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct SumOfSquares {
    pub(super) values: Address,
    pub(super) partials: Address,
    pub(super) length: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct SumOfSplitSquares {
    pub(super) working: Address,
    pub(super) remainder: Address,
    pub(super) partials: Address,
    pub(super) length: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Judge {
    pub(super) partials: Address,
    pub(super) not_finite: Address,
    pub(super) judgement: Address,
    pub(super) clip: f64,
    pub(super) skip_above: f64,
    pub(super) count: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct AdamW {
    pub(super) judgement: Address,
    pub(super) working: Address,
    pub(super) remainder: Address,
    pub(super) gradient: Address,
    pub(super) first: Address,
    pub(super) second: Address,
    pub(super) length: u64,
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) one_minus_beta1: f32,
    pub(super) one_minus_beta2: f32,
    pub(super) correction1: f32,
    pub(super) correction2: f32,
    pub(super) epsilon: f32,
    pub(super) learning_rate: f32,
    pub(super) decay: f32,
    pub(super) update: u32,
    pub(super) key: [u32; 2],
    pub(super) places: [u32; 2],
    pub(super) first_block: u64,
}

/// A copy that widens or narrows.
#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Convert {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) length: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct Attend {
    pub(super) fused: Address,
    pub(super) tiles: Address,
    pub(super) tile_count: Address,
    pub(super) out: Address,
    pub(super) lse: Address,
    pub(super) rows: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) window: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct AttendDelta {
    pub(super) out: Address,
    pub(super) dout: Address,
    pub(super) delta: Address,
    pub(super) packs: u32,
    pub(super) rows: u32,
    pub(super) heads: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct AttendBackward {
    pub(super) fused: Address,
    pub(super) dout: Address,
    pub(super) lse: Address,
    pub(super) delta: Address,
    pub(super) tiles: Address,
    pub(super) tile_count: Address,
    pub(super) dfused: Address,
    pub(super) dqueries: Address,
    pub(super) rows: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) window: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct RoundQueries {
    pub(super) dqueries: Address,
    pub(super) dfused: Address,
    pub(super) packs: u32,
    pub(super) width: u32,
    pub(super) fused_width: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct CacheAppend {
    pub(super) fused: Address,
    pub(super) slots: Address,
    pub(super) positions: Address,
    pub(super) keys: Address,
    pub(super) values: Address,
    pub(super) packs: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) capacity: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit)]
pub(super) struct AttendCached {
    pub(super) fused: Address,
    pub(super) slots: Address,
    pub(super) positions: Address,
    pub(super) keys: Address,
    pub(super) values: Address,
    pub(super) out: Address,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) capacity: u32,
    pub(super) window: u32,
}
