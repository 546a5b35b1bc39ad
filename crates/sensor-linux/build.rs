//! Compiles every program of `bpf/`; needs clang (Debian: clang).

use std::{env, path::PathBuf};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let bpf =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../bpf");
    println!("cargo:rerun-if-changed={}", bpf.display());
    // Set by `script/fuzz`.
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    for name in ["process", "network", "dns", "syscall"] {
        let source = bpf.join(format!("{name}.bpf.c"));
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args([
                "-I".into(),
                bpf.join("include").into_os_string(),
                "-Wno-unused-function".into(),
                "-Werror=implicit-function-declaration".into(),
            ])
            .build()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error:?}; is clang installed? run script/bootstrap",
                    source.display()
                )
            });
    }
}
