//! What the messages and services declare about themselves: data categories (P1), audit events and roles
//! (P37), names and comments. Each rule is shown to fail on a wrong schema.

#![expect(clippy::unwrap_used, reason = "a test that cannot look at the repository fails")]

mod categories;
mod comments;
mod names;
mod rules;

use std::path::Path;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Domicile's own schema.
fn pool() -> DescriptorPool {
    DescriptorPool::decode(domicile_proto::DESCRIPTORS).unwrap()
}

/// A schema that holds one file beside Domicile's options, to show that a rule fails.
fn wrong(text: &str) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    let name = "domicile/wrong/v1/wrong.proto";
    std::fs::create_dir_all(folder.path().join("domicile/wrong/v1")).unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("proto");
    let mut compiler = protox::Compiler::new([folder.path(), &proto]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_file(name).unwrap();
    // Decoded anew, so that options are read as extensions, as the real schema's are.
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

/// The head of a wrong file.
const HEAD: &str = "syntax = \"proto3\";\n// Wrong.\npackage domicile.wrong.v1;\n\
                    import \"domicile/options/v1/options.proto\";\n";

/// Domicile's own files of a schema.
fn files(pool: &DescriptorPool) -> impl Iterator<Item = FileDescriptor> + '_ {
    pool.files().filter(|file| file.package_name().starts_with("domicile"))
}

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}
