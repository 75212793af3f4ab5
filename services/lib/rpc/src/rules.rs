//! What each RPC declares, with whether its messages stream.

use std::collections::HashMap;
use std::sync::LazyLock;

use domicile_proto::Rule;
use domicile_types::Role;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The event name of RPCs that show nothing about anybody.
pub(crate) const UNAUDITED: &str = "none";

/// One RPC.
#[derive(Clone, Copy)]
pub(crate) struct Rpc {
    /// Its declaration.
    pub(crate) rule: &'static Rule,
    /// Whether the request is a stream.
    pub(crate) uploads: bool,
    /// Whether the answer is a stream.
    pub(crate) downloads: bool,
}

impl Rpc {
    pub(crate) fn allows(&self, role: Role) -> bool {
        self.rule.roles.contains(&role.as_str())
    }
}

static RPCS: LazyLock<HashMap<&'static str, Rpc>> = LazyLock::new(|| {
    let streams = streams();
    let rpc = |rule: &'static Rule| {
        let (uploads, downloads) = streams.get(rule.path).copied().unwrap_or_default();
        (rule.path, Rpc { rule, uploads, downloads })
    };
    domicile_proto::RULES.iter().map(rpc).collect()
});

/// The RPC at a path.
pub(crate) fn find(path: &str) -> Option<Rpc> {
    RPCS.get(path).copied()
}

/// Path → (request streams, answer streams), from the descriptors the build made.
fn streams() -> HashMap<String, (bool, bool)> {
    let set = FileDescriptorSet::decode(domicile_proto::DESCRIPTORS).unwrap_or_default();
    set.file.iter().flat_map(methods).collect()
}

fn methods(file: &FileDescriptorProto) -> impl Iterator<Item = (String, (bool, bool))> {
    file.service.iter().flat_map(move |service| {
        service.method.iter().map(move |method| {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            (path, (method.client_streaming(), method.server_streaming()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_found_and_streams_are_known() {
        let streams = streams();
        for rule in domicile_proto::RULES {
            assert!(find(rule.path).is_some() && streams.contains_key(rule.path), "{}", rule.path);
            assert!(
                !rule.roles.is_empty() && rule.roles.iter().all(|role| Role::parse(role).is_some()),
                "{}",
                rule.path
            );
        }
        let upload = find("/domicile.records.v1.RecordsService/UploadObject").unwrap();
        assert!(upload.uploads && !upload.downloads);
        let watch = find("/domicile.transfer.v1.TransferService/WatchTransfer").unwrap();
        assert!(!watch.uploads && watch.downloads);
        assert!(find("/domicile.transfer.v1.TransferService/Nothing").is_none());
    }
}
