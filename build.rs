//! Compiles `proto/` with protox, so that no protoc binary is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/trove/v1/admin_service.proto",
        "proto/trove/v1/answer_service.proto",
        "proto/trove/v1/collection_service.proto",
        "proto/trove/v1/document_service.proto",
        "proto/trove/v1/embedding_service.proto",
        "proto/trove/v1/search_service.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut messages = tonic_prost_build::Config::new();
    messages.enable_type_names();
    tonic_prost_build::configure()
        .file_descriptor_set_path(out_dir.join("trove_descriptor.bin"))
        .codec_path("crate::grpc::Codec")
        .compile_fds_with_config(descriptors.clone(), messages)?;
    std::fs::write(
        out_dir.join("trove_descriptor.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
