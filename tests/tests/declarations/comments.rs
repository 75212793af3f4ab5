//! Everything in the schema says what it is.

use std::collections::BTreeSet;

use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto};
use prost_reflect::{DescriptorPool, FileDescriptor};

use super::{HEAD, files, none, pool, wrong};

// Field numbers of descriptor.proto, of which a place in a file is a path.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

/// The places of one file that have a comment, and the names that lack one.
struct Walk {
    commented: BTreeSet<Vec<i32>>,
    missing: Vec<String>,
}

impl Walk {
    fn see(&mut self, path: &[i32], name: &str) {
        if !self.commented.contains(path) {
            self.missing.push(format!("{name} has no comment"));
        }
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto, within: &str) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{within}.{}", message.name());
        self.see(path, &name);
        for (at, field) in (0..).zip(&message.field) {
            self.see(&under(path, MESSAGE_FIELD, at), &format!("{name}.{}", field.name()));
        }
        for (at, nested) in (0..).zip(&message.nested_type) {
            self.message(&under(path, MESSAGE_NESTED, at), nested, &name);
        }
        for (at, one) in (0..).zip(&message.enum_type) {
            self.enumeration(&under(path, MESSAGE_ENUM, at), one, &name);
        }
    }

    fn enumeration(&mut self, path: &[i32], one: &EnumDescriptorProto, within: &str) {
        let name = format!("{within}.{}", one.name());
        self.see(path, &name);
        for (at, value) in (0..).zip(&one.value) {
            self.see(&under(path, ENUM_VALUE, at), &format!("{name}.{}", value.name()));
        }
    }
}

fn under(path: &[i32], kind: i32, at: i32) -> Vec<i32> {
    [path, &[kind, at]].concat()
}

fn uncommented(pool: &DescriptorPool) -> Vec<String> {
    files(pool).flat_map(|file| in_file(&file)).collect()
}

fn in_file(file: &FileDescriptor) -> Vec<String> {
    let file: &FileDescriptorProto = file.file_descriptor_proto();
    let places = file.source_code_info.iter().flat_map(|info| &info.location);
    let commented = places.filter(|place| !place.leading_comments().trim().is_empty());
    let mut walk =
        Walk { commented: commented.map(|place| place.path.clone()).collect(), missing: Vec::new() };
    let package = file.package();
    for (at, message) in (0..).zip(&file.message_type) {
        walk.message(&[FILE_MESSAGE, at], message, package);
    }
    for (at, one) in (0..).zip(&file.enum_type) {
        walk.enumeration(&[FILE_ENUM, at], one, package);
    }
    for (at, service) in (0..).zip(&file.service) {
        let path = [FILE_SERVICE, at];
        walk.see(&path, service.name());
        for (at, method) in (0..).zip(&service.method) {
            walk.see(&under(&path, SERVICE_METHOD, at), method.name());
        }
    }
    walk.missing
}

#[test]
fn everything_has_a_comment() {
    none(&uncommented(&pool()));
}

#[test]
fn what_has_no_comment_is_found() {
    let text = format!(
        "{HEAD}message A {{\n  string a = 1;\n  message B {{}}\n}}\nenum C {{\n  C_UNSPECIFIED = 0;\n}}\n\
         message GetRequest {{}}\nmessage GetResponse {{}}\n\
         service DService {{\n  rpc Get(GetRequest) returns (GetResponse);\n}}\n// Good.\nmessage E {{}}\n"
    );
    let found = uncommented(&wrong(&text));
    assert_eq!(found.len(), 9, "{found:?}");
    assert!(found.iter().all(|found| !found.contains(".E ")));
}
