//! The bill of materials of the executable `domicile`: every crate that is compiled into it or runs while it is
//! built, as `cargo tree` resolves the locked graph for one target, with the checksums of Cargo.lock.
//! CycloneDX 1.6, JSON. Nothing is fetched, and the same tree gives the same bytes.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use toml::Table;

pub use graph::{Graph, Package};

/// The crate whose executable is shipped.
const SHIPPED: &str = "domicile";

/// The document could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// `cargo tree` did not run, or not well.
    #[error("cargo tree: {0}")]
    Cargo(String),
    /// What `cargo tree` printed is not of the form this program knows.
    #[error("cargo tree printed {0:?}")]
    Line(String),
    /// Cargo.lock cannot be read.
    #[error("Cargo.lock: {0}")]
    Lock(String),
    /// A crate of the graph that the lock file does not have, or has without a checksum.
    #[error("{0} is not locked")]
    Unlocked(String),
}

/// What `Cargo.lock` says of a crate from a registry: its SHA-256, hexadecimal.
type Checksums = BTreeMap<(String, String), Option<String>>;

/// The document for the executable built for `target`, from the workspace in `root`.
///
/// # Errors
/// [`Failed`].
pub fn document(root: &Path, target: &str) -> Result<Value, Failed> {
    let all = Graph::of(root, SHIPPED, target, "normal,build")?;
    let linked = Graph::of(root, SHIPPED, target, "normal,no-proc-macro")?;
    let checksums = checksums(root)?;
    let shipped = all.packages.iter().find(|package| package.name == SHIPPED);
    let shipped = shipped.ok_or_else(|| Failed::Unlocked(SHIPPED.to_owned()))?;
    let libraries = all.packages.iter().filter(|package| package.name != SHIPPED);
    let components: Result<Vec<_>, _> =
        libraries.map(|package| component(package, &linked, &checksums)).collect();
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference(shipped),
                "name": shipped.name,
                "version": shipped.version,
                "purl": reference(shipped),
                "licenses": [{ "expression": shipped.licence }],
            },
            "properties": [{ "name": "domicile:target", "value": target }],
        },
        "components": components?,
        "dependencies": dependencies(&all),
    }))
}

/// A crate; what only runs while the executable is built (build scripts, procedural macros and what they
/// stand on) has the scope `excluded`.
fn component(package: &Package, linked: &Graph, checksums: &Checksums) -> Result<Value, Failed> {
    let locked = checksums.get(&(package.name.clone(), package.version.clone()));
    let locked = locked.ok_or_else(|| Failed::Unlocked(reference(package)))?;
    let scope = if linked.packages.contains(package) { "required" } else { "excluded" };
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "purl": reference(package),
        "scope": scope,
        "licenses": [{ "expression": package.licence }],
    });
    match locked {
        Some(checksum) => component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]),
        // A crate of this repository has none: its source is the commit's.
        None if package.ours => {}
        None => return Err(Failed::Unlocked(reference(package))),
    }
    Ok(component)
}

fn dependencies(graph: &Graph) -> Vec<Value> {
    let of = |package: &Package| -> BTreeSet<String> {
        graph.edges.get(package).into_iter().flatten().map(reference).collect()
    };
    graph
        .packages
        .iter()
        .map(|package| json!({ "ref": reference(package), "dependsOn": of(package) }))
        .collect()
}

/// The package URL.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn checksums(root: &Path) -> Result<Checksums, Failed> {
    let text = std::fs::read_to_string(root.join("Cargo.lock"))
        .map_err(|cause| Failed::Lock(cause.kind().to_string()))?;
    let lock: Table = text.parse().map_err(|_| Failed::Lock("not TOML".to_owned()))?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.ok_or_else(|| Failed::Lock("no packages".to_owned()))?;
    let text = |package: &toml::Value, key| package.get(key)?.as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| {
            let named = text(package, "name").zip(text(package, "version"));
            let named = named.ok_or_else(|| Failed::Lock("a package without a name".to_owned()))?;
            Ok((named, text(package, "checksum")))
        })
        .collect()
}
