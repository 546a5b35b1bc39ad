//! Compiles every program of `bpf/`; needs clang (Debian: clang).

use std::{
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let bpf =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../bpf");
    println!("cargo:rerun-if-changed={}", bpf.display());
    // Set by `script/fuzz`.
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    let mut all = DefaultHasher::new();
    for (object, name, raw) in [
        ("process", "process", false),
        ("process_raw", "process", true),
        ("network", "network", false),
        ("network_raw", "network", true),
        ("dns", "dns", false),
        ("syscall", "syscall", false),
    ] {
        let source = bpf.join(format!("{name}.bpf.c"));
        let mut arguments = vec![
            "-I".into(),
            bpf.join("include").into_os_string(),
            "-Wno-unused-function".into(),
            "-Werror=implicit-function-declaration".into(),
        ];
        if raw {
            arguments.push("-DRAW_TRACEPOINTS".into());
        }
        let object = out.join(format!("{object}.bpf.o"));
        SkeletonBuilder::new()
            .source(&source)
            .obj(&object)
            .clang_args(arguments)
            .build()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error:?}; is clang installed? run script/bootstrap",
                    source.display()
                )
            });
        all.write(&fs::read(&object).expect("it was just compiled"));
    }
    // By which programs are recognized that another build of the agent has loaded.
    println!("cargo:rustc-env=YINGLONG_PROGRAMS={:016x}", all.finish());
}
