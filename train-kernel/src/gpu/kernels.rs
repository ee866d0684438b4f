//! Every kernel: its source, its block, and the constants that it is compiled with.

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Its name in `kernels/`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!(concat!("../../kernels/", $name)) }
    };
}

/// What the files of kernels include.
pub const HEADERS: [Source; 6] = [
    source!("memory.cuh"),
    source!("ptx.cuh"),
    source!("core.cuh"),
    source!("random.cuh"),
    source!("attention.cuh"),
    source!("attention_backward.cuh"),
];

const ATTENTION_BACKWARD_KEYS: Source = source!("attention_backward_keys.cu");
const ATTENTION_BACKWARD_QUERIES: Source = source!("attention_backward_queries.cu");
const ATTENTION_DECODE: Source = source!("attention_decode.cu");
const ATTENTION_FORWARD: Source = source!("attention_forward.cu");
const ATTENTION_ROWS: Source = source!("attention_rows.cu");
const CONVERT: Source = source!("convert.cu");
const CROSS_ENTROPY: Source = source!("cross_entropy.cu");
const DROPOUT: Source = source!("dropout.cu");
const EMBEDDING: Source = source!("embedding.cu");
const NORM: Source = source!("norm.cu");
const OPTIMIZER: Source = source!("optimizer.cu");
const ROTATE: Source = source!("rotate.cu");
const SWIGLU: Source = source!("swiglu.cu");

/// One compilation of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Module {
    /// What is compiled.
    pub source: Source,
    /// Threads of a block: a multiple of 32.
    pub threads: u32,
    /// Blocks that a multiprocessor is to hold at once; bounds the registers.
    pub blocks_per_multiprocessor: u32,
    /// Further constants.
    pub constants: &'static [(&'static str, u32)],
    /// Whether tensor cores do its work.
    pub tensor_cores: bool,
}

/// A kernel of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kernel {
    /// Its symbol.
    pub name: &'static str,
    /// Where it is.
    pub module: Module,
    /// Bytes of shared memory of a block.
    pub shared_bytes: u32,
}

impl Module {
    /// The constants of the compilation, by name.
    pub fn definitions(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let own = [("THREADS", self.threads), ("BLOCKS_PER_SM", self.blocks_per_multiprocessor)];
        own.into_iter().chain(self.constants.iter().copied())
    }

    /// A name for messages and tables: the source with its constants.
    pub fn title(&self) -> String {
        let constants: Vec<String> = self.constants.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if constants.is_empty() {
            self.source.name.to_owned()
        } else {
            format!("{} ({})", self.source.name, constants.join(", "))
        }
    }

    const fn kernel(self, name: &'static str, shared: &[u32]) -> Kernel {
        // As SharedMemory in memory.cuh hands it out.
        let (mut bytes, mut index) = (0, 0);
        while index < shared.len() {
            bytes += shared[index].next_multiple_of(128);
            index += 1;
        }
        Kernel { name, module: self, shared_bytes: bytes }
    }
}

/// Threads of the kernels that take elements or rows one by one.
const THREADS: u32 = 256;
/// Threads of a row of logits.
const ROW_THREADS: u32 = 512;
/// Rows of which a block sums the gradient of a norm's weight. Part of the result: it never changes with the card.
pub const NORM_STRIP: u32 = 16;
/// Elements of which a block sums the squares; part of the result too.
pub const NORM_CHUNK: u64 = 65_536;
/// The widest row of a norm.
pub const MAX_WIDTH: usize = 8 * THREADS as usize * 8;

/// A module of elementwise kernels.
const fn plain(source: Source) -> Module {
    Module { source, threads: THREADS, blocks_per_multiprocessor: 4, constants: &[], tensor_cores: false }
}

const fn norm_module(constants: &'static [(&'static str, u32)], blocks_per_multiprocessor: u32) -> Module {
    Module { source: NORM, threads: THREADS, blocks_per_multiprocessor, constants, tensor_cores: false }
}

const NORMS: [Module; 4] = [
    norm_module(&[("CHUNKS", 1), ("STRIP", NORM_STRIP)], 4),
    norm_module(&[("CHUNKS", 2), ("STRIP", NORM_STRIP)], 4),
    norm_module(&[("CHUNKS", 4), ("STRIP", NORM_STRIP)], 2),
    norm_module(&[("CHUNKS", 8), ("STRIP", NORM_STRIP)], 1),
];

/// The module of norms of rows of this width, up to [`MAX_WIDTH`].
fn norms(width: usize) -> Module {
    let chunks = width.div_ceil(8 * THREADS as usize);
    NORMS[chunks.next_power_of_two().trailing_zeros() as usize]
}

/// Sums of a block's warps.
const WARP_SUMS: u32 = THREADS / 32 * 4;

/// `norm`
pub fn norm(width: usize) -> Kernel {
    norms(width).kernel("norm_forward", &[WARP_SUMS])
}

/// `norm_rebuild`
pub fn norm_rebuild(width: usize) -> Kernel {
    norms(width).kernel("norm_rebuild", &[])
}

/// `norm_backward`
pub fn norm_backward(width: usize) -> Kernel {
    norms(width).kernel("norm_backward", &[2 * WARP_SUMS])
}

/// `norm_weight`
pub fn norm_weight(width: usize) -> Kernel {
    norms(width).kernel("norm_weight", &[4 * THREADS])
}

/// `swiglu`
pub const SWIGLU_FORWARD: Kernel = plain(SWIGLU).kernel("swiglu", &[]);
/// `swiglu_backward`
pub const SWIGLU_BACKWARD: Kernel = plain(SWIGLU).kernel("swiglu_backward", &[]);
/// `gather_rows`
pub const GATHER_ROWS: Kernel = plain(EMBEDDING).kernel("gather_rows", &[]);
/// `embed_backward`
pub const EMBED_BACKWARD: Kernel = plain(EMBEDDING).kernel("embed_backward", &[]);
/// `drop_out`
pub const DROP_OUT: Kernel = plain(DROPOUT).kernel("drop_out", &[]);
/// `drop_out_backward`
pub const DROP_OUT_BACKWARD: Kernel = plain(DROPOUT).kernel("drop_out_backward", &[]);
/// `narrow`
pub const NARROW: Kernel = plain(CONVERT).kernel("narrow", &[]);
/// `widen`
pub const WIDEN: Kernel = plain(CONVERT).kernel("widen", &[]);

const CROSS_ENTROPY_MODULE: Module =
    Module { source: CROSS_ENTROPY, threads: ROW_THREADS, blocks_per_multiprocessor: 2, constants: &[], tensor_cores: false };
/// `cross_entropy`
pub const CROSS_ENTROPY_ROWS: Kernel = CROSS_ENTROPY_MODULE.kernel("cross_entropy", &[ROW_THREADS / 32 * 4; 2]);

const OPTIMIZER_MODULE: Module = Module {
    source: OPTIMIZER,
    threads: THREADS,
    blocks_per_multiprocessor: 4,
    constants: &[("CHUNK", NORM_CHUNK as u32)],
    tensor_cores: false,
};
/// `sum_of_squares`
pub const SUM_OF_SQUARES: Kernel = OPTIMIZER_MODULE.kernel("sum_of_squares", &[THREADS / 32 * 8]);
/// `sum_of_split_squares`
pub const SUM_OF_SPLIT_SQUARES: Kernel = OPTIMIZER_MODULE.kernel("sum_of_split_squares", &[THREADS / 32 * 8]);
/// `judge`
pub const JUDGE: Kernel = OPTIMIZER_MODULE.kernel("judge", &[THREADS / 32 * 8]);
/// `adamw`
pub const ADAMW: Kernel = OPTIMIZER_MODULE.kernel("adamw", &[]);
/// `adamw`, with moments in bf16
pub const ADAMW_DRAWN: Kernel = OPTIMIZER_MODULE.kernel("adamw_drawn", &[]);

const ROTATIONS: [Module; 2] =
    [Module { constants: &[("HEAD_WIDTH", 64)], ..plain(ROTATE) }, Module { constants: &[("HEAD_WIDTH", 128)], ..plain(ROTATE) }];

/// `rotate`, for heads of 64 or 128.
pub fn rotate(head_width: usize) -> Kernel {
    ROTATIONS[head_width / 128].kernel("rotate", &[])
}

/// Queries of a block of the forward: two strips of 16 a warp.
pub const QUERY_ROWS: u32 = 128;
/// Keys that it takes at a time; part of the result.
const KEY_ROWS: u32 = 64;
/// Keys of a block of the gradient: two strips of 16 a pair of warps.
pub const GRADIENT_KEY_ROWS: u32 = 128;
/// Queries of a block of the gradient: a strip of 16 a warp.
pub const GRADIENT_QUERY_ROWS: u32 = 64;
/// Rows that a block of the gradient takes at a time.
const STREAM_ROWS: u32 = 64;
/// Pairs of warps of a block of the gradient of keys.
const PAIRS: u32 = GRADIENT_KEY_ROWS / 32;
/// Threads of the other blocks of attention.
const ATTENTION_THREADS: u32 = 128;

/// A module of attention. The number of blocks on a multiprocessor is the largest that leaves registers enough for no spill.
const fn attention(source: Source, blocks_per_multiprocessor: u32, constants: &'static [(&'static str, u32)]) -> Module {
    Module { source, threads: ATTENTION_THREADS, blocks_per_multiprocessor, constants, tensor_cores: true }
}

/// A module of the gradient of keys.
const fn attention_keys(constants: &'static [(&'static str, u32)]) -> Module {
    Module { threads: 64 * PAIRS, ..attention(ATTENTION_BACKWARD_KEYS, 1, constants) }
}

/// Modules of a head width: 64, then 128.
const FORWARD: [Module; 2] = [
    attention(ATTENTION_FORWARD, 2, &[("HEAD_WIDTH", 64), ("QUERY_ROWS", QUERY_ROWS), ("KEY_ROWS", KEY_ROWS)]),
    attention(ATTENTION_FORWARD, 2, &[("HEAD_WIDTH", 128), ("QUERY_ROWS", QUERY_ROWS), ("KEY_ROWS", KEY_ROWS)]),
];
const ROWS: [Module; 2] = [rows_of_attention(&[("HEAD_WIDTH", 64)]), rows_of_attention(&[("HEAD_WIDTH", 128)])];
const BACKWARD_KEYS: [Module; 2] = [
    attention_keys(&[("HEAD_WIDTH", 64), ("BLOCK_ROWS", GRADIENT_KEY_ROWS), ("STREAM_ROWS", STREAM_ROWS), ("PAIRS", PAIRS)]),
    attention_keys(&[("HEAD_WIDTH", 128), ("BLOCK_ROWS", GRADIENT_KEY_ROWS), ("STREAM_ROWS", STREAM_ROWS), ("PAIRS", PAIRS)]),
];
const BACKWARD_ADDING: [Module; 2] = [
    attention_keys(&[
        ("HEAD_WIDTH", 64),
        ("BLOCK_ROWS", GRADIENT_KEY_ROWS),
        ("STREAM_ROWS", STREAM_ROWS),
        ("PAIRS", PAIRS),
        ("ADDS_QUERIES", 1),
    ]),
    attention_keys(&[
        ("HEAD_WIDTH", 128),
        ("BLOCK_ROWS", GRADIENT_KEY_ROWS),
        ("STREAM_ROWS", STREAM_ROWS),
        ("PAIRS", PAIRS),
        ("ADDS_QUERIES", 1),
    ]),
];
const BACKWARD_QUERIES: [Module; 2] = [
    attention(
        ATTENTION_BACKWARD_QUERIES,
        2,
        &[("HEAD_WIDTH", 64), ("BLOCK_ROWS", GRADIENT_QUERY_ROWS), ("STREAM_ROWS", STREAM_ROWS)],
    ),
    attention(
        ATTENTION_BACKWARD_QUERIES,
        2,
        &[("HEAD_WIDTH", 128), ("BLOCK_ROWS", GRADIENT_QUERY_ROWS), ("STREAM_ROWS", STREAM_ROWS)],
    ),
];
const DECODE: [Module; 2] =
    [attention(ATTENTION_DECODE, 4, &[("HEAD_WIDTH", 64)]), attention(ATTENTION_DECODE, 2, &[("HEAD_WIDTH", 128)])];

const fn rows_of_attention(constants: &'static [(&'static str, u32)]) -> Module {
    Module { constants, ..plain(ATTENTION_ROWS) }
}

/// `attend`, for heads of 64 or 128.
pub fn attend(head_width: usize) -> Kernel {
    let [queries, keys] = [QUERY_ROWS, KEY_ROWS].map(|rows| 2 * rows * head_width as u32);
    FORWARD[head_width / 128].kernel("attend", &[queries + 2 * keys])
}

/// `attend_delta`
pub fn attend_delta(head_width: usize) -> Kernel {
    ROWS[head_width / 128].kernel("attend_delta", &[])
}

/// `round_queries`
pub fn round_queries(head_width: usize) -> Kernel {
    ROWS[head_width / 128].kernel("round_queries", &[])
}

/// `attend_backward_keys`, which adds the gradients of queries as well when `adds_queries`.
pub fn attend_backward_keys(head_width: usize, adds_queries: bool) -> Kernel {
    let module = if adds_queries { BACKWARD_ADDING } else { BACKWARD_KEYS }[head_width / 128];
    let [own, streamed] = [GRADIENT_KEY_ROWS, STREAM_ROWS].map(|rows| 2 * rows * head_width as u32);
    let exchanged = PAIRS * 2 * (2 * 32 * STREAM_ROWS);
    module.kernel("attend_backward_keys", &[2 * own, 4 * streamed, exchanged, 4 * 4 * STREAM_ROWS])
}

/// `attend_backward_queries`
pub fn attend_backward_queries(head_width: usize) -> Kernel {
    let [own, streamed] = [GRADIENT_QUERY_ROWS, STREAM_ROWS].map(|rows| 2 * rows * head_width as u32);
    BACKWARD_QUERIES[head_width / 128].kernel("attend_backward_queries", &[2 * streamed + 2 * own])
}

/// `cache_append`
pub fn cache_append(head_width: usize) -> Kernel {
    DECODE[head_width / 128].kernel("cache_append", &[])
}

/// `attend_cached`
pub fn attend_cached(head_width: usize) -> Kernel {
    let warps = ATTENTION_THREADS / 32;
    DECODE[head_width / 128].kernel("attend_cached", &[4 * warps * 16 * head_width as u32, 4 * warps * 16, 4 * warps * 16])
}

/// Those that a model of these widths is computed with; with `adds_queries` both forms of [`attend_backward_keys`].
pub fn of_model(width: usize, head_width: usize, adds_queries: bool) -> Vec<Kernel> {
    let norms = norms(width);
    let of_head = [ROTATIONS, FORWARD, ROWS, BACKWARD_KEYS, BACKWARD_ADDING, BACKWARD_QUERIES, DECODE];
    let fits = |kernel: &Kernel| {
        let other_width = of_head.iter().any(|modules| kernel.module == modules[1 - head_width / 128]);
        let other_way = !adds_queries && kernel.module == BACKWARD_ADDING[head_width / 128];
        !other_width && !other_way && (kernel.module.source != NORM || kernel.module == norms)
    };
    all().into_iter().filter(fits).collect()
}

/// Every kernel in every configuration.
pub fn all() -> Vec<Kernel> {
    let mut kernels = vec![
        SWIGLU_FORWARD,
        SWIGLU_BACKWARD,
        GATHER_ROWS,
        EMBED_BACKWARD,
        DROP_OUT,
        DROP_OUT_BACKWARD,
        NARROW,
        WIDEN,
        CROSS_ENTROPY_ROWS,
        SUM_OF_SQUARES,
        SUM_OF_SPLIT_SQUARES,
        JUDGE,
        ADAMW,
        ADAMW_DRAWN,
    ];
    for head_width in [64, 128] {
        kernels.extend([rotate(head_width), attend(head_width), attend_delta(head_width), round_queries(head_width)]);
        kernels.extend([false, true].map(|adds_queries| attend_backward_keys(head_width, adds_queries)));
        kernels.extend([attend_backward_queries(head_width), cache_append(head_width), attend_cached(head_width)]);
    }
    for chunks in [1, 2, 4, 8] {
        let width = chunks * 8 * THREADS as usize;
        kernels.extend([norm(width), norm_rebuild(width), norm_backward(width), norm_weight(width)]);
    }
    kernels
}
