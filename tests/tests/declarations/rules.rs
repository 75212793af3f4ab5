//! Every RPC says which audit event it leaves and who may call it (P37).

use domicile_evidence::event::EventType;
use domicile_proto::{RULES, Rule};
use domicile_types::Role;
use prost_reflect::DescriptorPool;

use super::{HEAD, files, none, pool, wrong};

/// RPCs that leave no entry: with them the coordinator looks, once a second and more, at ids, states and
/// signed statements, which say nothing about a person. What it changes is audited.
const WITHOUT_ENTRY: &[&str] = &[
    "/domicile.coordinator.v1.CoordinatorService/ListTransfers",
    "/domicile.transfer.v1.TransferControlService/GetClosingProof",
    "/domicile.transfer.v1.TransferControlService/GetStatements",
    "/domicile.transfer.v1.TransferControlService/GetView",
    "/domicile.transfer.v1.TransferControlService/ListOpen",
    "/domicile.transfer.v1.TransferControlService/WatchChanges",
];

/// RPCs of a schema by their HTTP/2 paths.
fn paths(pool: &DescriptorPool) -> Vec<String> {
    let services = files(pool).flat_map(|file| file.services().collect::<Vec<_>>());
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name())).collect()
}

/// RPCs without a rule, and rules that say what nobody knows.
fn wrong_rules(paths: &[String], rules: &[Rule]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        match rules.iter().find(|rule| rule.path == path) {
            Some(rule) => found.extend(wrong_rule(rule)),
            None => found.push(format!("{path} has no rule")),
        }
    }
    for rule in rules.iter().filter(|rule| !paths.iter().any(|path| path == rule.path)) {
        found.push(format!("{} has a rule and is not there", rule.path));
    }
    found
}

fn wrong_rule(rule: &Rule) -> Vec<String> {
    let Rule { path, audit, roles } = rule;
    let mut found = Vec::new();
    match *audit {
        "none" if WITHOUT_ENTRY.contains(path) => {}
        "none" => found.push(format!("{path} leaves no audit entry")),
        event if EventType::parse(event).is_none() => found.push(format!("{path}: no event {event:?}")),
        _ => {}
    }
    if roles.is_empty() {
        found.push(format!("{path} names no role"));
    }
    for role in *roles {
        if Role::parse(role).is_none() {
            found.push(format!("{path}: no role {role:?}"));
        }
    }
    found
}

/// P37: every RPC declares its event, and the event is one the log can hold.
#[test]
fn every_rpc_declares_its_audit_event_and_its_roles() {
    let paths = paths(&pool());
    assert!(paths.len() > 50, "the services were not found");
    none(&wrong_rules(&paths, RULES));
}

/// P12: no RPC shows clinical data to an operator.
#[test]
fn operators_reach_no_record() {
    let records = RULES.iter().filter(|rule| rule.path.starts_with("/domicile.records.v1.RecordsService/"));
    let held = |rule: &&Rule| rule.roles.contains(&"operator") && !rule.audit.starts_with("record.hold.");
    none(&records.filter(held).map(|rule| format!("{} lets operators in", rule.path)).collect::<Vec<_>>());
}

/// Nobody acts for the system or, on the people's services, for another region by calling an RPC.
#[test]
fn no_rpc_mixes_people_and_peers() {
    let mixed = RULES.iter().filter(|rule| {
        let peers = ["region", "coordinator", "system"];
        let peer = rule.roles.iter().any(|role| peers.contains(role));
        let person = rule.roles.iter().any(|role| !peers.contains(role) && *role != "operator");
        peer && person
    });
    none(&mixed.map(|rule| format!("{} is for people and peers", rule.path)).collect::<Vec<_>>());
}

#[test]
fn an_undeclared_rpc_is_found() {
    let text = format!(
        "{HEAD}message GetRequest {{}}\nmessage GetResponse {{}}\n\
         service WrongService {{ rpc Get(GetRequest) returns (GetResponse); }}\n"
    );
    let paths = paths(&wrong(&text));
    let path = "/domicile.wrong.v1.WrongService/Get";
    assert!(paths.iter().any(|found| found == path));
    let rule = |audit, roles| Rule { path, audit, roles };
    let found = |rules: &[Rule]| wrong_rules(&[path.to_owned()], rules).len();
    assert_eq!(found(&[]), 1);
    assert_eq!(found(&[rule("record.item.read", &["client"])]), 0);
    assert_eq!(found(&[rule("none", &["client"])]), 1);
    assert_eq!(found(&[rule("record.item.stare", &["client"])]), 1);
    assert_eq!(found(&[rule("record.item.read", &[])]), 1);
    assert_eq!(found(&[rule("record.item.read", &["client", "everybody"])]), 1);
    assert_eq!(wrong_rules(&[], &[rule("record.item.read", &["client"])]).len(), 1);
}
