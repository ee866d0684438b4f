//! The calls into cuBLASLt, each made once and safe to use. Decides nothing.
//!
//! The library counts columns first. A row-major matrix is the transposed one for it, and `c = a b` is asked for as
//! `cᵀ = bᵀ aᵀ`: its first operand is `b`, its second `a`, and nothing is moved.

use std::ptr;

use cudarc::cublaslt::sys;

use super::super::device::Address;
use super::products::{Operand, ProductKey};
use crate::backend::Dtype;

/// What the library said, in its own words.
pub(super) type Answer<T> = Result<T, String>;

/// Numbers of an algorithm, which mean something to one version of the library on one kind of card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm(pub(super) [u64; 8]);

/// How the sums of an algorithm come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summation {
    /// Parts that the sum over k is cut into.
    pub(super) parts: i32,
    /// How they are put together; `cublasLtReductionScheme_t`.
    pub(super) scheme: u32,
}

impl Summation {
    /// Whether the result is the same in every run, and rounded once: no parts, or parts kept in f32 in the workspace and
    /// added in order.
    pub(super) fn is_exact(self) -> bool {
        self.parts <= 1 || self.scheme == sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32
    }
}

/// A product as the library sees it.
#[derive(Debug)]
pub(super) struct Description {
    operation: calls::Operation,
    /// First operand, second, and result.
    layouts: [calls::Layout; 3],
    /// Their alignments in bytes.
    alignments: [u32; 3],
}

impl Description {
    pub(super) fn new(key: &ProductKey) -> Answer<Self> {
        let operation = calls::Operation::new(key.b.is_transposed, key.a.is_transposed)?;
        let operands = [key.b, key.a, key.c];
        let [first, second, result] = operands.map(|operand: Operand| calls::Layout::new(&operand));
        Ok(Self { operation, layouts: [first?, second?, result?], alignments: operands.map(|operand| operand.alignment_bytes) })
    }
}

#[cfg(test)]
impl Description {
    /// Whether the library takes what is asked of its algorithms; it needs no card for that.
    pub(super) fn is_accepted(&self, workspace_bytes: usize) -> Answer<()> {
        calls::Preference::new(workspace_bytes, self.alignments).map(drop)
    }
}

/// The places and factors of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    pub(super) a: Address,
    pub(super) b: Address,
    pub(super) c: Address,
    pub(super) alpha: f32,
    /// Factor of what `c` holds: 0 or 1.
    pub(super) beta: f32,
}

/// Where parts of sums are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workspace {
    pub(super) address: Address,
    pub(super) bytes: usize,
}

/// The library, opened for the context of the calling thread.
#[derive(Debug)]
pub(super) struct Handle(calls::RawHandle);

impl Handle {
    pub(super) fn new() -> Answer<Self> {
        calls::RawHandle::new().map(Self)
    }

    /// Its version, such as 120804.
    pub(super) fn version() -> u64 {
        calls::version() as u64
    }

    /// Up to `most` algorithms, the most promising first by the library's own judgement.
    pub(super) fn candidates(&self, product: &Description, workspace_bytes: usize, most: usize) -> Answer<Vec<Algorithm>> {
        let preference = calls::Preference::new(workspace_bytes, product.alignments)?;
        self.0.candidates(product, &preference, most)
    }

    /// Whether an algorithm does this product in this workspace.
    pub(super) fn takes(&self, product: &Description, algorithm: &Algorithm, workspace_bytes: usize) -> bool {
        self.0.workspace_bytes(product, algorithm).is_ok_and(|needed| needed <= workspace_bytes)
    }

    /// Multiplies.
    pub(super) fn multiply(
        &self,
        product: &Description,
        algorithm: &Algorithm,
        operands: Operands,
        workspace: Workspace,
        stream: cudarc::driver::sys::CUstream,
    ) -> Answer<()> {
        self.0.multiply(product, algorithm, operands, workspace, stream)
    }
}

/// How an algorithm sums.
pub(super) fn summation(algorithm: &Algorithm) -> Answer<Summation> {
    use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
    let parts = calls::configuration(algorithm, Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM)?;
    let scheme = calls::configuration(algorithm, Attribute::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME)?;
    Ok(Summation { parts: parts as i32, scheme })
}

fn data_type(dtype: Dtype) -> sys::cudaDataType {
    match dtype {
        Dtype::F32 => sys::cudaDataType::CUDA_R_32F,
        Dtype::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        Dtype::Remainder => sys::cudaDataType::CUDA_R_16I,
    }
}

/// One operation of the library a function.
#[expect(unsafe_code, reason = "calls cuBLASLt")]
mod calls {
    use std::ffi::c_void;
    use std::mem::MaybeUninit;

    use cudarc::cublaslt::result::{self, CublasError};
    use cudarc::cublaslt::sys::{
        cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t as Heuristic,
        cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute,
    };

    use super::{Algorithm, Answer, Description, Operand, Operands, Workspace, data_type, ptr, sys};

    fn said(error: CublasError) -> String {
        error.to_string()
    }

    pub(super) fn version() -> usize {
        // SAFETY: it takes nothing and returns a number.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// An attribute of an algorithm that is 32 bits wide.
    pub(super) fn configuration(algorithm: &Algorithm, attribute: sys::cublasLtMatmulAlgoConfigAttributes_t) -> Answer<u32> {
        let algorithm = sys::cublasLtMatmulAlgo_t { data: algorithm.0 };
        let (mut value, mut written) = (0_u32, 0);
        // SAFETY: the algorithm outlives the call, and `value` is a place of the size that is said.
        let status = unsafe {
            sys::cublasLtMatmulAlgoConfigGetAttribute(
                &raw const algorithm,
                attribute,
                (&raw mut value).cast::<c_void>(),
                size_of::<u32>(),
                &raw mut written,
            )
        };
        status.result().map_err(said)?;
        Ok(value)
    }

    /// What is done to the operands.
    #[derive(Debug)]
    pub(super) struct Operation(sys::cublasLtMatmulDesc_t);

    // SAFETY: plain data of the library's, with one owner.
    unsafe impl Send for Operation {}

    impl Operation {
        pub(super) fn new(is_first_transposed: bool, is_second_transposed: bool) -> Answer<Self> {
            let sum = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
            let operation = Self(result::create_matmul_desc(sum, sys::cudaDataType::CUDA_R_32F).map_err(said)?);
            operation.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, is_first_transposed)?;
            operation.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, is_second_transposed)?;
            Ok(operation)
        }

        fn set(&self, attribute: DescAttribute, is_transposed: bool) -> Answer<()> {
            // CUBLAS_OP_T is 1, CUBLAS_OP_N is 0.
            let value = i32::from(is_transposed);
            // SAFETY: the descriptor is alive, and both attributes take 32 bits, copied by the call.
            let set = unsafe {
                result::set_matmul_desc_attribute(self.0, attribute, (&raw const value).cast::<c_void>(), size_of::<i32>())
            };
            set.map_err(said)
        }
    }

    impl Drop for Operation {
        fn drop(&mut self) {
            // SAFETY: made by the library, and destroyed here only. A failure leaks it, which nobody can mend.
            let _ = unsafe { result::destroy_matmul_desc(self.0) };
        }
    }

    /// A matrix without its place.
    #[derive(Debug)]
    pub(super) struct Layout(sys::cublasLtMatrixLayout_t);

    // SAFETY: plain data of the library's, with one owner.
    unsafe impl Send for Layout {}

    impl Layout {
        pub(super) fn new(operand: &Operand) -> Answer<Self> {
            let (rows, columns) = (operand.columns as u64, operand.rows as u64);
            let layout = result::create_matrix_layout(data_type(operand.dtype), rows, columns, operand.row_stride as i64);
            layout.map(Self).map_err(said)
        }
    }

    impl Drop for Layout {
        fn drop(&mut self) {
            // SAFETY: made by the library, and destroyed here only. A failure leaks it, which nobody can mend.
            let _ = unsafe { result::destroy_matrix_layout(self.0) };
        }
    }

    /// What algorithms are looked for.
    #[derive(Debug)]
    pub(super) struct Preference(sys::cublasLtMatmulPreference_t);

    impl Preference {
        /// `alignments` are of the first operand, the second and the result.
        pub(super) fn new(workspace_bytes: usize, alignments: [u32; 3]) -> Answer<Self> {
            let preference = Self(result::create_matmul_pref().map_err(said)?);
            let [first, second, of_result] = alignments;
            let in_f32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(workspace_bytes as u64))?;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &in_f32)?;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &first)?;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &second)?;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of_result)?;
            preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of_result)?;
            Ok(preference)
        }

        fn set<T: Copy>(&self, attribute: PreferenceAttribute, value: &T) -> Answer<()> {
            // SAFETY: the preference is alive, and `value` is as wide as is said, copied by the call.
            let set = unsafe {
                result::set_matmul_pref_attribute(self.0, attribute, ptr::from_ref(value).cast::<c_void>(), size_of::<T>())
            };
            set.map_err(said)
        }
    }

    impl Drop for Preference {
        fn drop(&mut self) {
            // SAFETY: made by the library, and destroyed here only. A failure leaks it, which nobody can mend.
            let _ = unsafe { result::destroy_matmul_pref(self.0) };
        }
    }

    /// The library's own memory for a card.
    #[derive(Debug)]
    pub(super) struct RawHandle(sys::cublasLtHandle_t);

    // SAFETY: the library takes its handles from any thread; this one has one owner.
    unsafe impl Send for RawHandle {}

    impl RawHandle {
        pub(super) fn new() -> Answer<Self> {
            result::create_handle().map(Self).map_err(said)
        }

        pub(super) fn candidates(&self, product: &Description, preference: &Preference, most: usize) -> Answer<Vec<Algorithm>> {
            let [first, second, of_result] = &product.layouts;
            let mut found: Vec<MaybeUninit<Heuristic>> = vec![MaybeUninit::uninit(); most];
            let mut count = 0;
            // SAFETY: all descriptions are alive, and `found` has room for the number that is asked for.
            let status = unsafe {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.0,
                    product.operation.0,
                    first.0,
                    second.0,
                    of_result.0,
                    of_result.0,
                    preference.0,
                    most as i32,
                    found.as_mut_ptr().cast(),
                    &raw mut count,
                )
            };
            status.result().map_err(said)?;
            found.truncate(count.unsigned_abs() as usize);
            // SAFETY: the library has written the first `count` of them.
            let found = found.into_iter().map(|heuristic| unsafe { heuristic.assume_init() });
            let usable = found.filter(|heuristic| heuristic.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
            Ok(usable.map(|heuristic| Algorithm(heuristic.algo.data)).collect())
        }

        /// Bytes of workspace that an algorithm takes for a product that it can do.
        pub(super) fn workspace_bytes(&self, product: &Description, algorithm: &Algorithm) -> Answer<usize> {
            let [first, second, of_result] = &product.layouts;
            let algorithm = sys::cublasLtMatmulAlgo_t { data: algorithm.0 };
            let mut found: MaybeUninit<Heuristic> = MaybeUninit::uninit();
            // SAFETY: all descriptions are alive, the algorithm outlives the call, and `found` is a place for its answer.
            let status = unsafe {
                sys::cublasLtMatmulAlgoCheck(
                    self.0,
                    product.operation.0,
                    first.0,
                    second.0,
                    of_result.0,
                    of_result.0,
                    &raw const algorithm,
                    found.as_mut_ptr(),
                )
            };
            status.result().map_err(said)?;
            // SAFETY: the library has written it, as it reports success.
            let found = unsafe { found.assume_init() };
            found.state.result().map_err(said)?;
            Ok(found.workspaceSize)
        }

        pub(super) fn multiply(
            &self,
            product: &Description,
            algorithm: &Algorithm,
            operands: Operands,
            workspace: Workspace,
            stream: cudarc::driver::sys::CUstream,
        ) -> Answer<()> {
            let [first, second, of_result] = &product.layouts;
            let algorithm = sys::cublasLtMatmulAlgo_t { data: algorithm.0 };
            // SAFETY: descriptions, algorithm and factors outlive the call, which reads them before it returns. Operands and
            // workspace are places of the card, where no Rust value lies.
            let multiplied = unsafe {
                result::matmul(
                    self.0,
                    product.operation.0,
                    (&raw const operands.alpha).cast(),
                    (&raw const operands.beta).cast(),
                    place(operands.b),
                    first.0,
                    place(operands.a),
                    second.0,
                    place(operands.c),
                    of_result.0,
                    place(operands.c).cast_mut(),
                    of_result.0,
                    &raw const algorithm,
                    place(workspace.address).cast_mut(),
                    workspace.bytes,
                    stream.cast(),
                )
            };
            multiplied.map_err(said)
        }
    }

    impl Drop for RawHandle {
        fn drop(&mut self) {
            // SAFETY: made by the library, and destroyed here only. A failure leaks it, which nobody can mend.
            let _ = unsafe { result::destroy_handle(self.0) };
        }
    }

    /// A place of the card as the library takes it.
    fn place(address: super::Address) -> *const c_void {
        ptr::without_provenance(address.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sums_that_are_the_same_in_every_run_are_taken() {
        let check = |parts, scheme, expected| assert_eq!(Summation { parts, scheme }.is_exact(), expected, "{parts} {scheme}");
        // None, in place, in f32 in the workspace, in the result's type in the workspace.
        check(1, 0, true);
        check(0, 0, true);
        check(4, 0, false);
        check(4, 1, false);
        check(4, 2, true);
        check(4, 4, false);
    }
}
