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
pub const HEADERS: [Source; 4] = [source!("memory.cuh"), source!("ptx.cuh"), source!("core.cuh"), source!("attention.cuh")];

const ATTENTION_BACKWARD: Source = source!("attention_backward.cu");
const ATTENTION_DECODE: Source = source!("attention_decode.cu");
const ATTENTION_FORWARD: Source = source!("attention_forward.cu");
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
    norms(width).kernel("norm_weight", &[])
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
/// `judge`
pub const JUDGE: Kernel = OPTIMIZER_MODULE.kernel("judge", &[THREADS / 32 * 8]);
/// `adamw`
pub const ADAMW: Kernel = OPTIMIZER_MODULE.kernel("adamw", &[]);

const ROTATIONS: [Module; 2] =
    [Module { constants: &[("HEAD_WIDTH", 64)], ..plain(ROTATE) }, Module { constants: &[("HEAD_WIDTH", 128)], ..plain(ROTATE) }];

/// `rotate`, for heads of 64 or 128.
pub fn rotate(head_width: usize) -> Kernel {
    ROTATIONS[head_width / 128].kernel("rotate", &[])
}

/// Rows of a tile of attention: queries, or keys of a gradient.
pub const TILE_ROWS: u32 = 64;
/// Keys that a block of queries takes at a time.
const KEY_ROWS: u32 = 64;
/// Queries that a block of keys takes at a time: more would leave one block on a multiprocessor of an A100.
const QUERY_ROWS: u32 = 32;
/// Threads of a block of attention: a warp has 16 rows.
const ATTENTION_THREADS: u32 = 2 * TILE_ROWS;

/// A module of attention. The number of blocks on a multiprocessor is the largest that leaves registers enough for no spill.
const fn attention(source: Source, blocks_per_multiprocessor: u32, constants: &'static [(&'static str, u32)]) -> Module {
    Module { source, threads: ATTENTION_THREADS, blocks_per_multiprocessor, constants, tensor_cores: true }
}

/// Modules of a head width: 64, then 128.
const FORWARD: [Module; 2] = [
    attention(ATTENTION_FORWARD, 3, &[("HEAD_WIDTH", 64), ("QUERY_ROWS", TILE_ROWS), ("KEY_ROWS", KEY_ROWS)]),
    attention(ATTENTION_FORWARD, 3, &[("HEAD_WIDTH", 128), ("QUERY_ROWS", TILE_ROWS), ("KEY_ROWS", KEY_ROWS)]),
];
const BACKWARD_KEYS: [Module; 2] = [
    attention(ATTENTION_BACKWARD, 3, &[("HEAD_WIDTH", 64), ("BLOCK_ROWS", TILE_ROWS), ("STREAM_ROWS", QUERY_ROWS)]),
    attention(ATTENTION_BACKWARD, 2, &[("HEAD_WIDTH", 128), ("BLOCK_ROWS", TILE_ROWS), ("STREAM_ROWS", QUERY_ROWS)]),
];
const BACKWARD_QUERIES: [Module; 2] = [
    attention(ATTENTION_BACKWARD, 2, &[("HEAD_WIDTH", 64), ("BLOCK_ROWS", TILE_ROWS), ("STREAM_ROWS", KEY_ROWS)]),
    attention(ATTENTION_BACKWARD, 2, &[("HEAD_WIDTH", 128), ("BLOCK_ROWS", TILE_ROWS), ("STREAM_ROWS", KEY_ROWS)]),
];
const DECODE: [Module; 2] =
    [attention(ATTENTION_DECODE, 4, &[("HEAD_WIDTH", 64)]), attention(ATTENTION_DECODE, 2, &[("HEAD_WIDTH", 128)])];

/// `attend`, for heads of 64 or 128.
pub fn attend(head_width: usize) -> Kernel {
    let tile = 2 * KEY_ROWS * head_width as u32;
    FORWARD[head_width / 128].kernel("attend", &[3 * tile])
}

/// `attend_delta`
pub fn attend_delta(head_width: usize) -> Kernel {
    BACKWARD_QUERIES[head_width / 128].kernel("attend_delta", &[])
}

/// `attend_backward_keys`
pub fn attend_backward_keys(head_width: usize) -> Kernel {
    let [block, stream] = [TILE_ROWS, QUERY_ROWS].map(|rows| 2 * rows * head_width as u32);
    BACKWARD_KEYS[head_width / 128].kernel("attend_backward_keys", &[2 * block, 4 * stream, 4 * 4 * QUERY_ROWS])
}

/// `attend_backward_queries`
pub fn attend_backward_queries(head_width: usize) -> Kernel {
    let [block, stream] = [TILE_ROWS, KEY_ROWS].map(|rows| 2 * rows * head_width as u32);
    BACKWARD_QUERIES[head_width / 128].kernel("attend_backward_queries", &[2 * stream + 2 * block])
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

/// Those that a model of these widths is computed with.
pub fn of_model(width: usize, head_width: usize) -> Vec<Kernel> {
    let norms = norms(width);
    let fits = |kernel: &Kernel| match kernel.module.source {
        NORM => kernel.module == norms,
        ROTATE => kernel.module == ROTATIONS[head_width / 128],
        ATTENTION_FORWARD => kernel.module == FORWARD[head_width / 128],
        ATTENTION_BACKWARD => [BACKWARD_KEYS, BACKWARD_QUERIES].iter().any(|modules| kernel.module == modules[head_width / 128]),
        ATTENTION_DECODE => kernel.module == DECODE[head_width / 128],
        _ => true,
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
        JUDGE,
        ADAMW,
    ];
    for head_width in [64, 128] {
        kernels.extend([rotate(head_width), attend(head_width), attend_delta(head_width), attend_backward_keys(head_width)]);
        kernels.extend([attend_backward_queries(head_width), cache_append(head_width), attend_cached(head_width)]);
    }
    for chunks in [1, 2, 4, 8] {
        let width = chunks * 8 * THREADS as usize;
        kernels.extend([norm(width), norm_rebuild(width), norm_backward(width), norm_weight(width)]);
    }
    kernels
}
