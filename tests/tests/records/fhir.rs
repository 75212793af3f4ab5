//! FHIR bundles: out as they came in, all or nothing.

use std::path::{Path, PathBuf};

use domicile_proto::records::v1::{self as pb, import_fhir_request, payload};
use domicile_rpc::from_status;
use domicile_store::Backend;
use domicile_store::queries::residency::Standing;
use domicile_tests::records::{edit, get, put};
use domicile_types::Code;
use futures::stream;
use serde_json::Value;
use tonic::{Code as Grpc, Status};

use super::{Scene, refused, status};

super::on_both!(
    every_bundle_comes_back_as_it_went,
    an_import_is_done_once,
    an_import_is_all_or_nothing,
    what_is_wrong_is_named_by_its_place,
    an_imported_resource_stays_as_it_came,
);

/// Where other people's bundles lie.
const SAMPLES: &str = "DOMICILE_FHIR_SAMPLES";
/// Our own small bundle: every way to write a value that a reader could change.
const SYNTHETIC: &str = include_str!("../../data/bundle.json");

/// The bundles to try: ours, and those in the folder of samples where there is one. A folder that is named and
/// not there, or holds no bundle, fails the test.
fn bundles() -> Vec<(String, String)> {
    let mut bundles = vec![("synthetic".to_owned(), SYNTHETIC.to_owned())];
    let named = std::env::var_os(SAMPLES).map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/fhir-r4");
    let folder = match named {
        Some(folder) => folder,
        None if usual.is_dir() => usual,
        None => return bundles,
    };
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            bundles.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(bundles.len() > 1, "{} holds no bundle", folder.display());
    bundles
}

async fn import(scene: &Scene, key: &str, text: &[u8]) -> Result<pb::ImportFhirResponse, Status> {
    use import_fhir_request::Part;
    let header = pb::ImportHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: format!("import-key-{key:-<12}"),
    };
    let pieces = text.chunks(700_000).map(|piece| Part::Content(piece.to_vec()));
    let parts: Vec<_> = std::iter::once(Part::Header(header))
        .chain(pieces)
        .map(|part| pb::ImportFhirRequest { part: Some(part) })
        .collect();
    Ok(scene.carer().import_fhir(stream::iter(parts)).await?.into_inner())
}

async fn export(scene: &Scene, bundle: &str) -> Vec<u8> {
    let request =
        pb::ExportFhirRequest { subject_id: scene.client.subject.clone(), bundle_item_id: bundle.to_owned() };
    let mut answer = scene.client().export_fhir(request).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(piece) = answer.message().await.unwrap() {
        text.extend_from_slice(&piece.content);
    }
    text
}

// P33
async fn every_bundle_comes_back_as_it_went(backend: Backend) {
    let scene = Scene::new(backend).await;
    let mut revision = 0;
    for (name, text) in bundles() {
        let before: Value = serde_json::from_str(&text).unwrap();
        let entries = before["entry"].as_array().unwrap().len() as u64;
        let imported = import(&scene, &revision.to_string(), text.as_bytes()).await.unwrap();
        assert_eq!(u64::from(imported.resources), entries, "{name}");
        revision += entries + 1;
        assert_eq!(scene.summary().await.revision, revision, "{name}");
        let after = export(&scene, &imported.bundle_item_id).await;
        assert!(serde_json::from_slice::<Value>(&after).unwrap() == before, "{name} changed on the way");
    }
}

async fn an_import_is_done_once(backend: Backend) {
    let scene = Scene::new(backend).await;
    let text = SYNTHETIC.as_bytes();
    let both = tokio::join!(import(&scene, "one", text), import(&scene, "one", text));
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    let again = import(&scene, "one", text).await.unwrap();
    assert!(first == second && first == again);
    assert_eq!(scene.summary().await.revision, u64::from(first.resources) + 1);
    let other = SYNTHETIC.replace("transaction", "collection");
    let other = import(&scene, "one", other.as_bytes()).await;
    refused(other, Code::IdempotencyMismatch, Grpc::AlreadyExists);
}

async fn an_import_is_all_or_nothing(backend: Backend) {
    let scene = Scene::new(backend).await;
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Frozen).await.unwrap();
    let frozen = import(&scene, "one", SYNTHETIC.as_bytes()).await;
    refused(frozen, Code::RecordFrozen, Grpc::Unavailable);
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Active).await.unwrap();
    let entry = |filler: usize| {
        format!(r#"{{"resource":{{"resourceType":"Binary","data":"{}"}}}}"#, "A".repeat(filler))
    };
    let bundle = |last: usize| {
        let entries = [entry(10), entry(999_000), entry(last)].join(",");
        format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{entries}]}}"#)
    };
    let refusal = status(import(&scene, "two", bundle(1_000_001).as_bytes()).await);
    assert_eq!(refusal.code(), Grpc::OutOfRange);
    assert_eq!(from_status(&refusal).place(), Some("entry[2]"));
    let summary = scene.summary().await;
    assert!(summary.revision == 0 && summary.kinds.is_empty());
    let imported = import(&scene, "two", bundle(10).as_bytes()).await.unwrap();
    assert!(export(&scene, &imported.bundle_item_id).await == bundle(10).as_bytes());
}

async fn what_is_wrong_is_named_by_its_place(backend: Backend) {
    let scene = Scene::new(backend).await;
    let cut = &SYNTHETIC[..SYNTHETIC.len() / 2];
    let patient = SYNTHETIC.replacen("\"Patient\"", "\"<script>\"", 1);
    let history = SYNTHETIC.replacen("\"transaction\"", "\"history\"", 1);
    let line = cut.lines().count();
    for (text, place) in [
        (cut.as_bytes(), format!("line {line}")),
        (patient.as_bytes(), "entry[0].resource.resourceType".to_owned()),
        (history.as_bytes(), "type".to_owned()),
        (b"\xff\xfe", "line 1 column 1".to_owned()),
        (b"", "line 1".to_owned()),
    ] {
        let refusal = status(import(&scene, "one", text).await);
        let error = from_status(&refusal);
        assert_eq!((refusal.code(), error.code()), (Grpc::InvalidArgument, Code::FhirInvalid));
        assert!(error.place().unwrap().starts_with(&place), "{:?} {place}", error.place());
    }
    assert_eq!(scene.summary().await.revision, 0);
}

async fn an_imported_resource_stays_as_it_came(backend: Backend) {
    let scene = Scene::new(backend).await;
    let imported = import(&scene, "one", SYNTHETIC.as_bytes()).await.unwrap();
    let request = pb::ListItemsRequest {
        subject_id: scene.client.subject.clone(),
        kind: "fhir_resource".to_owned(),
        with_payloads: true,
        ..Default::default()
    };
    let items = scene.client().list_items(request).await.unwrap().into_inner().items;
    assert_eq!(items.len() as u64, u64::from(imported.resources) + 1);
    let (bundle, entries): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.header.as_ref().unwrap().parent_id.is_empty());
    assert_eq!(bundle[0].header.as_ref().unwrap().item_id, imported.bundle_item_id);
    for (number, pb::Item { header, payload }) in entries.into_iter().enumerate() {
        let header = header.unwrap();
        let change = edit(pb::ItemDraft { payload, ..Default::default() }, &header);
        let change = scene.carer().put_item(put(&scene.client.subject, &number.to_string(), change)).await;
        refused(change, Code::ItemLocked, Grpc::FailedPrecondition);
        let read = scene.carer().get_item(get(&header)).await.unwrap().into_inner().item.unwrap();
        assert!(matches!(read.payload.unwrap().kind, Some(payload::Kind::FhirResource(_))));
        let no_bundle = pb::ExportFhirRequest {
            subject_id: scene.client.subject.clone(),
            bundle_item_id: header.item_id,
        };
        refused(scene.carer().export_fhir(no_bundle).await, Code::InvalidRequest, Grpc::InvalidArgument);
    }
}
