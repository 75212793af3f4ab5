//! Generates the services without protoc, without `Debug` (it would print PHI), and the table of
//! RPC rules from the `(domicile.options.v1.rule)` options.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use prost_reflect::{DescriptorPool, Value};

const FILES: &[&str] = &[
    "domicile/options/v1/options.proto",
    "domicile/identity/v1/identity.proto",
    "domicile/records/v1/payload.proto",
    "domicile/records/v1/records.proto",
    "domicile/transfer/v1/transfer.proto",
    "domicile/transfer/v1/control.proto",
    "domicile/audit/v1/audit.proto",
    "domicile/coordinator/v1/coordinator.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let pool = compiler.descriptor_pool();
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    std::fs::write(Path::new(&out).join("rules.rs"), rules(&pool)?)?;

    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(["."]).bytes([
        ".domicile.transfer.v1",
        ".domicile.records.v1.UploadObjectRequest",
        ".domicile.records.v1.DownloadObjectResponse",
    ]);
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), prost)?;
    Ok(())
}

/// The table `RULES`, one row an RPC.
fn rules(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option = pool.get_extension_by_name("domicile.options.v1.rule").ok_or("no rule option")?;
    let mut table = String::from("&[\n");
    for service in pool.services().filter(|s| s.full_name().starts_with("domicile.")) {
        for method in service.methods() {
            let options = method.options();
            let rule = options.get_extension(&option);
            let Some(rule) = rule.as_message() else { continue };
            let audit = rule.get_field_by_name("audit");
            let audit = audit.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned();
            let roles = rule.get_field_by_name("roles");
            let roles = roles.as_deref().and_then(Value::as_list).unwrap_or_default();
            let roles: Vec<&str> = roles.iter().filter_map(Value::as_str).collect();
            writeln!(
                table,
                "    Rule {{ path: \"/{}/{}\", audit: {audit:?}, roles: &{roles:?} }},",
                service.full_name(),
                method.name()
            )?;
        }
    }
    table.push(']');
    Ok(table)
}
