//! What can be shown without a card: how it is missed, and that every kernel compiles for every target.

use std::path::PathBuf;

use super::compile::{compile, compiler_version};
use super::cubin::count_tensor_products;
use super::*;
use crate::backend::Dtype;
use crate::gpu::{DeviceMatrix, kernels};

/// Opens the libraries of the folder that `MELLAMA_CUDA_LIBS` names; whether there is a compiler then.
fn has_compiler() -> bool {
    if let Some(folder) = std::env::var_os("MELLAMA_CUDA_LIBS").map(PathBuf::from) {
        open_from(&folder).unwrap();
    }
    Library::Compiler.opens()
}

#[test]
fn a_card_is_a_device() {
    fn is_device<D: Device>() {}
    is_device::<Card>();
}

#[test]
fn without_a_driver_a_card_says_so() {
    if Library::Driver.opens() {
        println!("not run: this machine has a driver");
        return;
    }
    for error in [Card::open(0, CardOptions::default()).unwrap_err(), cards().unwrap_err()] {
        assert_eq!(error, DeviceError::NoDriver { library: "libcuda.so.1" });
        let expected = "GPU: no driver: libcuda.so.1 does not open; install NVIDIA's driver, or leave `device` at \"cpu\"";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn without_a_compiler_a_compilation_says_so() {
    if std::env::var_os("MELLAMA_CUDA_LIBS").is_some() || Library::Compiler.opens() {
        println!("not run: this machine has a compiler");
        return;
    }
    let error = compile(&kernels::NARROW.module, Target::Sm80, CompileOptions::default()).unwrap_err();
    assert_eq!(error, Library::Compiler.require().unwrap_err());
    assert!(error.to_string().contains("does not open; install it (nvidia-cuda-nvrtc"), "{error}");
}

fn card(name: &str, capability: (u32, u32)) -> Properties {
    Properties { name: name.to_owned(), capability, multiprocessors: 108, memory_bytes: 80 << 30, shared_bytes: 166_912 }
}

#[test]
fn resume_takes_choices_that_it_can_read() {
    assert_eq!(given_products(None), None);
    let entries = BTreeMap::from([("a product".to_owned(), "00".repeat(64))]);
    let table = ProductTable { library_version: 120_804, device_name: "a card".to_owned(), entries };
    assert_eq!(given_products(Some(&serde_json::to_value(&table).unwrap())), Some(table));
    for strange in [Value::Null, serde_json::json!("text"), serde_json::json!({ "library_version": "new" })] {
        assert_eq!(given_products(Some(&strange)), Some(ProductTable::default()), "{strange}");
    }
}

#[test]
fn the_arena_leaves_room_beside_it() {
    assert_eq!(beside_reserve(80 << 30), (80 << 30) - (768 << 20));
    assert_eq!(beside_reserve(RESERVE_BYTES - 1), 0);
    let card = card("a card", (8, 0));
    assert_eq!(most_arena_bytes(&card), (80 << 30) - (768 << 20) - (700 << 20) - (64 << 20));
    assert_eq!(most_arena_bytes(&Properties { memory_bytes: 1 << 30, ..card }), 0);
}

#[test]
fn messages_name_what_was_found_and_what_is_needed() {
    let check = |error: DeviceError, expected: &[&str]| {
        let message = error.to_string();
        assert!(message.starts_with("GPU: ") && !message.contains('\n'), "{message}");
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    };
    let old = card("Tesla V100", (7, 0));
    check(target_of(&old).unwrap_err(), &["Tesla V100", "7.0", "8.0"]);
    check(DeviceError::NoSuchCard { index: 3, count: 2 }, &["card 3", "shows 2", "CUDA_VISIBLE_DEVICES"]);
    check(DeviceError::Workspace { needed_bytes: 64, free_bytes: 7 }, &["workspace", "64 bytes", "7 are free"]);
    check(DeviceError::Driver { reason: "CUDA_ERROR_SYSTEM_NOT_READY".to_owned() }, &["NOT_READY", "nvidia-smi"]);
    check(
        DeviceError::BadLibrary { library: "libx.so".to_owned(), reason: "gone".to_owned() },
        &["libx.so", "gone", "--cuda-libs"],
    );
    let new = Properties { capability: (12, 0), ..old };
    assert!(unforeseen(&new).contains("12.0"));
}

#[test]
fn every_kernel_compiles_for_every_target() {
    if !has_compiler() {
        println!("not run: {}", Library::Compiler.require().unwrap_err());
        return;
    }
    let mut modules: Vec<Module> = kernels::all().iter().map(|kernel| kernel.module).collect();
    modules.sort();
    modules.dedup();
    for target in [Target::Sm80, Target::Sm90a, Target::Ptx80] {
        for module in &modules {
            let compiled = compile(module, target, CompileOptions::default()).unwrap();
            check_compiled(module, target, &compiled);
        }
    }
    println!("{} modules by NVRTC {}", modules.len(), compiler_version().unwrap());
}

fn check_compiled(module: &Module, target: Target, compiled: &compile::Compiled) {
    let kernels: Vec<Kernel> = kernels::all().into_iter().filter(|kernel| kernel.module == *module).collect();
    if target == Target::Ptx80 {
        assert_eq!(compiled.cubin.last(), Some(&0), "the driver reads up to the zero");
        let text = String::from_utf8_lossy(&compiled.cubin);
        assert!(kernels.iter().all(|kernel| text.contains(kernel.name)) && text.contains(".target sm_80"));
        return;
    }
    for kernel in &kernels {
        let of_kernel = compiled.resources.iter().find(|resources| resources.name == kernel.name);
        let resources = of_kernel.unwrap_or_else(|| panic!("{}: the log does not name it: {}", kernel.name, compiled.log));
        let title = format!("{} of {} for {}", kernel.name, module.title(), target.as_str());
        assert!(resources.registers > 0, "{title}: {}", compiled.log);
        let spilled = (resources.spill_stores, resources.spill_loads, resources.stack_bytes);
        // Other compilers than the one that is shipped place registers in other ways.
        if compiler_version() == Ok(LEVEL) {
            assert_eq!(spilled, (0, 0, 0), "{title}");
        }
        assert!(resources.shared_bytes + kernel.shared_bytes <= target.max_shared_bytes(), "{title}");
    }
    let products = |kernel: &Kernel| count_tensor_products(&compiled.cubin, kernel.name).unwrap();
    let has_products = kernels.iter().any(|kernel| products(kernel) > 0);
    assert_eq!(has_products, module.tensor_cores, "{} for {}", module.title(), target.as_str());
}

#[test]
fn an_error_of_a_source_is_told_in_the_compilers_words() {
    if !has_compiler() {
        println!("not run: {}", Library::Compiler.require().unwrap_err());
        return;
    }
    let mut module = kernels::NARROW.module;
    module.source.text = "#include <core.cuh>\nKERNEL(broken, Nothing) { nonsense(); }\n";
    let error = compile(&module, Target::Sm80, CompileOptions::default()).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("GPU: kernel convert.cu for sm_80: convert.cu(2): error: "), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn compiled_code_is_kept_and_compiled_again_when_its_file_is_broken() {
    if !has_compiler() {
        println!("not run: {}", Library::Compiler.require().unwrap_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().join("kernels"));
    let mut images = Images::new(Target::Sm80, LEVEL, Some(cache.clone()), CompileOptions::default());
    images.embedded = &[];
    let module = kernels::NARROW.module;
    let first = images.get(&module).unwrap();
    assert!(first.is_new && first.not_kept.is_none());
    let again = images.get(&module).unwrap();
    assert!(!again.is_new);
    assert_eq!(again.code, first.code);
    let file = std::fs::read_dir(cache.folder()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, &first.code[..100]).unwrap();
    let repaired = images.get(&module).unwrap();
    assert!(repaired.is_new);
    assert!(!images.get(&module).unwrap().is_new);
    let mut nowhere = Images::new(Target::Sm80, LEVEL, Some(Cache::at(file)), CompileOptions::default());
    nowhere.embedded = &[];
    assert!(nowhere.get(&module).unwrap().not_kept.is_some(), "it cannot be kept, and is used all the same");
}

#[test]
fn embedded_kernels_are_those_of_this_program() {
    if embedded::CUBINS.is_empty() {
        println!("not run: this program was built without MELLAMA_CUBINS");
        return;
    }
    // Those that are shipped and those for cards that came later: all that tests/kernels/run embeds.
    for target in Target::SHIPPED.into_iter().chain([Target::Ptx80]) {
        let images = Images::new(target, LEVEL, None, CompileOptions::default());
        for kernel in kernels::all() {
            // Without an embedded one it would be compiled, or no compiler be found.
            let image = images.get(&kernel.module).unwrap_or_else(|error| panic!("{}: {error}", kernel.module.title()));
            assert!(!image.is_new, "{} for {} is not embedded", kernel.module.title(), target.as_str());
        }
    }
}

#[test]
fn a_product_is_described_to_the_library_where_it_opens() {
    has_compiler();
    if !Library::Products.opens() {
        println!("not run: {}", Library::Products.require().unwrap_err());
        return;
    }
    let matrix = |dtype, rows, columns| DeviceMatrix {
        address: Address(4096),
        dtype,
        rows,
        columns,
        row_stride: columns,
        transposed: false,
    };
    let (a, b, c) = (matrix(Dtype::Bf16, 64, 32), matrix(Dtype::Bf16, 32, 48), matrix(Dtype::F32, 64, 48));
    let product = DeviceProduct { alpha: 1.0, a, b, c, accumulate: false };
    let described = guarded(Library::Products, || {
        let described = lt::Description::new(&ProductKey::of(&product)?).and_then(|description| description.is_accepted(1 << 20));
        described.map_err(|reason| DeviceError::BadLibrary { library: "cuBLASLt".to_owned(), reason })
    });
    assert_eq!(described, Ok(()));
    println!("cuBLASLt {}", lt::Handle::version());
}
