//! Dashboards, alerts, runbooks and the page about telemetry say what is so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use domicile_telemetry::metrics::catalogue::{self, Kind};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// Every name that Prometheus has of what the code exports.
fn exported() -> BTreeSet<String> {
    let names = catalogue::ALL.iter().flat_map(|metric| {
        let name = metric.prometheus();
        match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec(),
            _ => vec![name],
        }
    });
    names.collect()
}

/// Labels that a series may have: its attributes, those of its process, and Prometheus' own.
fn labels() -> BTreeSet<String> {
    let own = ["le", "instance", "job", "domicile_region", "domicile_role"].map(str::to_owned);
    let attributes = catalogue::ALL.iter().flat_map(|metric| metric.attributes);
    own.into_iter().chain(attributes.map(|name| name.replace('.', "_"))).collect()
}

/// What PromQL itself knows.
const WORDS: [&str; 16] = [
    "sum",
    "min",
    "max",
    "by",
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "label_values",
    "or",
    "unless",
    "offset",
    "and",
    "on",
    "s",
    "m",
];

/// Names in an expression: of metrics, and of labels.
fn names(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    // Strings hold values; what stands in braces, or in parentheses after `by`, are labels.
    let outside: String = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let mut within = Vec::new();
    let (mut word, mut last) = (String::new(), String::new());
    for letter in outside.chars().chain([' ']) {
        if letter.is_ascii_alphanumeric() || letter == '_' || letter == ':' {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            let name = std::mem::take(&mut word);
            let number = name.starts_with(|first: char| first.is_ascii_digit());
            if within.last() == Some(&'l') {
                labels.insert(name.clone());
            } else if !number && !WORDS.contains(&name.as_str()) {
                metrics.insert(name.clone());
            }
            last = name;
        }
        match letter {
            '{' => within.push('l'),
            '[' => within.push('l'),
            '(' => within.push(if last == "by" { 'l' } else { 'e' }),
            '}' | ']' | ')' => {
                within.pop();
            }
            _ => {}
        }
        if !letter.is_whitespace() && letter != '(' {
            last.clear();
        }
    }
    labels.retain(|label| !label.starts_with(|first: char| first.is_ascii_digit()));
    (metrics, labels)
}

/// Metrics and labels of an expression that nothing has.
fn unknown(expression: &str) -> Vec<String> {
    let (metrics, used) = names(expression);
    let (exported, labels) = (exported(), labels());
    let metrics: Vec<_> = metrics.into_iter().filter(|name| !exported.contains(name)).collect();
    let used = used.into_iter().filter(|name| !labels.contains(name));
    metrics.into_iter().chain(used).collect()
}

struct Alert {
    name: String,
    expression: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let rules = yaml("infra/alerts/domicile.yaml");
    let mut found = Vec::new();
    for group in rules["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
            assert!(["critical", "warning"].contains(&severity));
            assert!(!text(&rule["annotations"]["summary"]).is_empty() && !text(&rule["for"]).is_empty());
            found.push(Alert {
                name: text(&rule["alert"]),
                expression: text(&rule["expr"]),
                runbook: text(&rule["annotations"]["runbook_url"]),
            });
        }
    }
    assert!(found.len() > 15, "the alerts were not found");
    found
}

/// Every expression of the dashboards, by panel.
fn panels() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(root().join("infra/dashboards")).unwrap() {
        let path = file.unwrap().path();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let title = board["title"].as_str().unwrap().to_owned();
        for panel in board["panels"].as_array().unwrap() {
            let targets = panel["targets"].as_array().unwrap();
            let expressions = targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned());
            let name = format!("{title}: {}", panel["title"].as_str().unwrap());
            assert!(found.insert(name, expressions.collect::<Vec<_>>()).is_none(), "a title twice");
        }
    }
    assert!(found.len() > 20, "the dashboards were not found");
    found
}

#[test]
fn dashboards_and_alerts_use_what_is_exported() {
    let mut wrong = Vec::new();
    for (panel, expressions) in panels() {
        assert!(!expressions.is_empty(), "{panel} shows nothing");
        wrong.extend(expressions.iter().map(|text| (panel.clone(), unknown(text))));
    }
    wrong.extend(alerts().into_iter().map(|alert| (alert.name, unknown(&alert.expression))));
    wrong.retain(|(_, names)| !names.is_empty());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let shown: BTreeSet<String> = panels().values().flatten().flat_map(|text| names(text).0).collect();
    let missing: Vec<_> = catalogue::ALL
        .iter()
        .map(|metric| metric.prometheus())
        .filter(|name| !shown.iter().any(|shown| shown.starts_with(name.as_str())))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = alerts();
    let index = read("docs/runbooks/README.md");
    let mut linked = BTreeSet::new();
    for alert in &alerts {
        let page = read(&alert.runbook);
        for heading in ["## What it means", "## What to look at", "## What to do"] {
            assert!(page.contains(heading), "{}: {heading}", alert.runbook);
        }
        assert!(page.contains(&alert.name), "{} does not name {}", alert.runbook, alert.name);
        let file = alert.runbook.rsplit('/').next().unwrap().to_owned();
        assert!(index.contains(&format!("[`{}`]({file})", alert.name)), "{} is not listed", alert.name);
        linked.insert(file);
    }
    for entry in std::fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || linked.contains(&name), "{name} belongs to no alert");
    }
    let names: BTreeSet<_> = alerts.iter().map(|alert| &alert.name).collect();
    assert_eq!(names.len(), alerts.len(), "a name twice");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let folder = root().join("docs/runbooks");
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root().join("docs/telemetry.md"));
    let mut followed = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if !target.starts_with("http") && !target.is_empty() {
                assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
                followed += 1;
            }
        }
    }
    assert!(followed > 40, "{followed} links");
}

#[test]
fn the_page_lists_every_metric_as_it_is() {
    let page = read("docs/telemetry.md");
    for metric in catalogue::ALL {
        let attributes: Vec<_> = metric.attributes.iter().map(|name| format!("`{name}`")).collect();
        let row = format!(
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            kind(metric.kind),
            metric.unit,
            attributes.join(" "),
            metric.what
        );
        assert!(page.contains(&row), "docs/telemetry.md lacks:\n{row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6).count();
    assert_eq!(rows, catalogue::ALL.len(), "and no other");
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::UpDownCounter => "up-down counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[test]
fn the_collector_is_configured_whole() {
    let file = yaml("infra/otel/collector.yaml");
    let known =
        |kind: &str| -> BTreeSet<String> { file[kind].as_object().unwrap().keys().cloned().collect() };
    for (name, pipeline) in file["service"]["pipelines"].as_object().unwrap() {
        for kind in ["receivers", "processors", "exporters"] {
            for part in pipeline[kind].as_array().unwrap() {
                assert!(known(kind).contains(part.as_str().unwrap()), "{name}: {part} is not configured");
            }
        }
    }
    assert_eq!(file["exporters"]["prometheus"]["resource_to_telemetry_conversion"]["enabled"], true);
}

#[test]
fn a_metric_nobody_exports_is_found() {
    assert_eq!(
        unknown("rate(domicile_store_retries_total{domicile_region=\"x\"}[5m])"),
        Vec::<String>::new()
    );
    assert_eq!(unknown("sum by (le) (rate(domicile_made_up_total[5m])) > 1"), ["domicile_made_up_total"]);
    assert_eq!(unknown("domicile_transfer_stuck{subject=\"x\"}"), ["subject"]);
    assert_eq!(unknown("sum by (person) (domicile_transfer_stuck)"), ["person"]);
}
