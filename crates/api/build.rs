//! Makes sure the folder of the built console exists, so that the server builds without it.

use std::{fs, path::Path};

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console/dist");
    if let Err(error) = fs::create_dir_all(&dist) {
        println!("cargo::error=cannot create `{}`: {error}", dist.display());
    }
    println!("cargo::rerun-if-changed=../../console/dist");
}
