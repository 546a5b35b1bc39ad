//! Generates the wire types; needs `protoc` (Debian: protobuf-compiler).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .compile_protos(&["proto/yinglong/v1/fleet.proto"], &["proto"])
        .map_err(|error| {
            format!("{error}; is protobuf-compiler installed? run script/bootstrap")
        })?;
    Ok(())
}
