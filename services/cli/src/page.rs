//! One transfer's evidence as a page that people print and file: HTML without scripts and without anything from
//! elsewhere.

use std::fmt::Write as _;

use domicile_evidence::report::{ComparedStep, Comparison, Finding, Report};
use domicile_evidence::statement::{AbortReason, Body, Verified};
use domicile_proto::transfer::v1::GetReceiptResponse;
use domicile_types::Timestamp;

use crate::text;

const STYLE: &str = include_str!("page.css");

/// A bundle that was read.
pub struct Source {
    /// The file's name.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What the verifier found in it.
    pub report: Report,
}

/// Everything a page tells.
pub struct Case<'a> {
    /// The transfer.
    pub transfer: String,
    /// The bundles, one a region.
    pub sources: &'a [Source],
    /// What the two logs say of it, where two were given.
    pub comparison: Option<&'a Comparison>,
    /// The statements whose signatures hold, in the order of their times.
    pub statements: &'a [&'a Verified],
    /// The client's receipt, if somebody gave it.
    pub receipt: Option<&'a GetReceiptResponse>,
    /// The verifier's exit code.
    pub exit: u8,
    /// When the page was made.
    pub made_at: Timestamp,
}

/// The page.
#[must_use]
pub fn html(case: &Case<'_>) -> String {
    let title = format!("Transfer {}", case.transfer);
    let parts = [
        verdict(case),
        summary(case),
        consent(case),
        steps(case),
        erasure(case),
        stays(case),
        logs(case),
        limits(),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{}\
         </main>\n</body>\n</html>\n",
        parts.concat(),
        title = escaped(&title),
    )
}

/// Text as HTML shows it; control characters and those that turn the direction of writing are shown as `·`.
fn escaped(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in text::safe(plain).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn section(heading: &str, content: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

fn paragraph(plain: &str) -> String {
    format!("<p>{}</p>\n", escaped(plain))
}

fn list(lines: impl IntoIterator<Item = String>) -> String {
    let mut out = String::from("<ul>\n");
    for line in lines {
        writeln!(out, "<li>{}</li>", escaped(&line)).ok();
    }
    out + "</ul>\n"
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |cells: &[String], tag: &str| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>()
    };
    let headings: Vec<_> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let mut out = format!("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", cells(&headings, "th"));
    for row in rows {
        writeln!(out, "<tr>{}</tr>", cells(row, "td")).ok();
    }
    out + "</tbody>\n</table>\n"
}

fn fields(pairs: &[(&str, String)]) -> String {
    let mut out = String::from("<dl>\n");
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(value)).ok();
    }
    out + "</dl>\n"
}

fn at(time: Timestamp) -> String {
    text::time(time.micros())
}

fn verdict(case: &Case<'_>) -> String {
    let (class, word) = match case.exit {
        0 => ("good", "Everything in these files agrees".to_owned()),
        code => (
            "bad",
            format!("Not proven: the verifier ends with {code}. Nothing below counts until that is resolved"),
        ),
    };
    let found = case.sources.iter().flat_map(|source| {
        source.report.findings.iter().map(|finding| format!("{}: {finding}", source.report.region))
    });
    let compared = case.comparison.iter().flat_map(|comparison| comparison.findings.iter());
    let findings: Vec<_> = found.chain(compared.map(Finding::to_string)).collect();
    let findings = if findings.is_empty() { String::new() } else { list(findings) };
    let made =
        format!("Made {} by domicile {}, offline, from the files named below.", at(case.made_at), VERSION);
    let cautions = list(cautions(case));
    format!("<p class=\"verdict {class}\">{word}</p>\n{findings}{cautions}{}", paragraph(&made))
}

/// How much the verdict is worth, beside it and not below everything else.
fn cautions(case: &Case<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if !case.sources.iter().all(|source| source.report.keys_pinned) {
        all.push("No policy pins the keys: the files only show that they agree with themselves.".to_owned());
    }
    if case.comparison.is_none() {
        all.push("One region's log alone was given: what the other one says is not compared.".to_owned());
    }
    for Source { report, .. } in case.sources {
        let text = format!(
            "Log of {}: {} entries signed by the region, {} of them proven by every witness.",
            report.region, report.signed_size, report.proven_size
        );
        all.push(text);
    }
    all
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn said<'a>(case: &Case<'a>, wanted: fn(&Body) -> bool) -> Option<&'a Verified> {
    case.statements.iter().rev().find(|verified| wanted(&verified.body)).copied()
}

fn summary(case: &Case<'_>) -> String {
    let requested = said(case, |body| matches!(body, Body::Requested { .. }));
    let mut pairs = vec![("Transfer", case.transfer.clone())];
    if let Some(Verified { statement, body: Body::Requested { source, destination, .. }, .. }) = requested {
        pairs.push(("From, to", format!("{source} to {destination}, attempt {}", statement.attempt)));
        pairs.push(("Asked for", at(statement.at)));
    }
    pairs.push(("Outcome", outcome(case)));
    section("What happened", &fields(&pairs))
}

fn outcome(case: &Case<'_>) -> String {
    let Some(last) = case.statements.iter().rev().find(|verified| ends(&verified.body)) else {
        return "open: no statement ends it".to_owned();
    };
    match &last.body {
        Body::Shredded { .. } => {
            format!("the record has moved; erased at its old home {}", at(last.statement.at))
        }
        Body::Aborting { reason } | Body::Aborted { reason } => {
            format!("ended without a move {}: {}", at(last.statement.at), reason_text(*reason))
        }
        _ => format!("complete since {}; the old home has not erased the record yet", at(last.statement.at)),
    }
}

const fn ends(body: &Body) -> bool {
    matches!(
        body,
        Body::Shredded { .. } | Body::Aborting { .. } | Body::Aborted { .. } | Body::Released { .. }
    )
}

const fn reason_text(reason: AbortReason) -> &'static str {
    match reason {
        AbortReason::Withdrawn => "the client withdrew",
        AbortReason::Expired => "the time of the offer, the consent or a state ran out",
        AbortReason::Failed => "it could not be done",
        AbortReason::Cancelled => "an operator ended it",
    }
}

fn consent(case: &Case<'_>) -> String {
    let given = said(case, |body| matches!(body, Body::Consented { .. }));
    let Some(Verified {
        statement,
        body:
            Body::Consented { consent, consent_digest, offer_digest, notice_version, destination, expires_at },
        ..
    }) = given
    else {
        return section("Consent", &paragraph("These files hold no signed statement of a consent."));
    };
    let mut content = fields(&[
        ("Given", at(statement.at)),
        ("For", format!("a move to {destination}, complete by {}", at(*expires_at))),
        ("Consent", consent.to_string()),
        ("Text version", notice_version.clone()),
        ("Digest of the offer", hex::encode(offer_digest)),
        ("Digest of the consent", hex::encode(consent_digest)),
    ]);
    content.push_str(&words(case, offer_digest));
    section("Consent", &content)
}

/// The text consented to, if the receipt is of this offer.
fn words(case: &Case<'_>, offered: &[u8; 32]) -> String {
    let Some(offer) = case.receipt.and_then(|receipt| receipt.offer.as_ref()) else {
        return paragraph(
            "The text itself is not in the logs. The receipt of the old home, given with --receipt, brings it into \
             this page; the new home's does not hold it.",
        );
    };
    if offered.as_slice() != AsRef::<[u8]>::as_ref(&offer.digest) {
        return paragraph("The receipt that was given is of another offer: its text is not shown.");
    }
    let source = format!(
        "NOT VERIFIED: the following is the text as the receipt that was given holds it ({}). The receipt names the \
         same offer by its digest; that these are the words behind the digest cannot be checked from these files.",
        offer.locale
    );
    let (source, notice) = (escaped(&source), escaped(&offer.notice));
    format!("<p><strong>{source}</strong></p>\n<pre class=\"notice\">{notice}</pre>\n")
}

fn steps(case: &Case<'_>) -> String {
    let names: Vec<_> = case.sources.iter().map(|source| source.report.region.clone()).collect();
    let mut headings = vec!["when", "region", "no", "what it states"];
    let of: Vec<_> = names.iter().map(|name| format!("in the log of {name}")).collect();
    headings.extend(of.iter().map(String::as_str));
    headings.push("digest");
    let rows: Vec<_> = case.statements.iter().map(|verified| step_row(case, verified)).collect();
    let mut content = paragraph(
        "Steps whose signatures hold, each signed by the region that took it. A number says where the step stands in \
         a log, whose tree is signed as a whole.",
    );
    content.push_str(&table(&headings, &rows));
    section("Steps", &content)
}

fn step_row(case: &Case<'_>, verified: &Verified) -> Vec<String> {
    let statement = &verified.statement;
    let digest: String = hex::encode(verified.digest).chars().take(16).collect();
    let mut row = vec![
        text::time(statement.at.micros()),
        statement.origin.to_string(),
        statement.sequence.to_string(),
        sentence(&verified.body),
    ];
    row.extend(case.sources.iter().map(|source| place(case, &source.report, verified)));
    row.push(digest);
    row
}

/// Where a log holds a statement, and whether the other log holds the same.
fn place(case: &Case<'_>, report: &Report, verified: &Verified) -> String {
    let (statement, digest) = (&verified.statement, hex::encode(verified.digest));
    let stories = report.transfers.iter().filter(|story| story.transfer == case.transfer);
    let mut held = stories.flat_map(|story| &story.steps);
    let held = held.find(|step| step.digest == digest);
    let Some(held) = held else { return "not there".to_owned() };
    let same = |step: &&ComparedStep| {
        step.attempt == statement.attempt
            && step.sequence == statement.sequence
            && step.origin == statement.origin.as_str()
    };
    let compared = case.comparison.and_then(|comparison| comparison.steps.iter().find(same));
    match compared {
        Some(step) if !step.same => format!("{} (differs)", held.index),
        _ => held.index.to_string(),
    }
}

/// What a step states, in a sentence.
fn sentence(body: &Body) -> String {
    match body {
        Body::Requested { destination, expires_at, .. } => {
            format!("The client asks for a move to {destination}; open until {}.", at(*expires_at))
        }
        Body::Preflighted { offer_digest: Some(_), .. } => "The offer stands.".to_owned(),
        Body::Preflighted { offer_digest: None, .. } => "This region would take the record.".to_owned(),
        Body::Consented { destination, .. } => {
            format!("The client, freshly signed in, consents to exactly this offer: a move to {destination}.")
        }
        Body::Copying { hpke_public, .. } if hpke_public.is_empty() => {
            "The sealed copy begins; the key stays here.".to_owned()
        }
        Body::Copying { .. } => "A key pair for this attempt alone is made.".to_owned(),
        Body::Frozen { freeze, .. } => format!("The record is held still (freeze {freeze})."),
        Body::Unfrozen { freeze } => format!("The record is writable again (freeze {freeze} ended)."),
        Body::Staged { rows, objects, bytes, .. } => format!(
            "Everything is here, sealed and not readable: {rows} rows, {objects} objects, {}.",
            text::size(*bytes)
        ),
        Body::Released { epoch, .. } => format!(
            "Complete: the consent was active in this very transaction, both sides hold the same content, and the \
             key is released (epoch {epoch})."
        ),
        Body::Adopted { rows, epoch, .. } => {
            format!("This region is the record's home: {rows} rows (epoch {epoch}).")
        }
        Body::Rekeyed { rows, objects, .. } => format!(
            "Sealed again under keys the old home never knew: {rows} rows, {objects} objects; a backup covers it."
        ),
        Body::Shredded { rows, objects, keys, .. } => {
            format!("Erased here: {rows} rows, {objects} objects, {keys} keys.")
        }
        Body::Aborting { reason } => format!("Ended: {}; the record stays.", reason_text(*reason)),
        Body::Aborted { reason } => {
            format!("Nothing of the attempt is left here ({}).", reason_text(*reason))
        }
    }
}

fn erasure(case: &Case<'_>) -> String {
    let shredded = said(case, |body| matches!(body, Body::Shredded { .. }));
    let Some(Verified {
        statement,
        body: Body::Shredded { rows, objects, keys, unreadable_at, provable_at, method, .. },
        digest,
    }) = shredded
    else {
        return String::new();
    };
    let content = fields(&[
        ("Region", statement.origin.to_string()),
        ("Erased", format!("{rows} rows, {objects} objects, {keys} keys")),
        ("How", method.clone()),
        ("Readable by nobody there since", at(*unreadable_at)),
        ("Not even from a backup of the keys from", at(*provable_at)),
        ("Signed statement", hex::encode(digest)),
    ]);
    section("Certificate of erasure", &content)
}

fn stays(case: &Case<'_>) -> String {
    let moved = said(case, |body| matches!(body, Body::Released { .. })).is_some();
    let Some(receipt) = case.receipt.filter(|receipt| moved && !receipt.stays_behind.is_empty()) else {
        return String::new();
    };
    let source = paragraph("As the receipt that was given says; not verified.");
    let sentences = list(receipt.stays_behind.iter().cloned());
    section("What stays behind at the old home", &format!("{source}{sentences}"))
}

fn logs(case: &Case<'_>) -> String {
    let mut content = String::new();
    for source in case.sources {
        let report = &source.report;
        let keys =
            if report.keys_pinned { "pinned by the policy" } else { "the bundle's own word, not pinned" };
        writeln!(content, "<h3>{}</h3>", escaped(&report.region)).ok();
        content.push_str(&fields(&[
            ("Log", report.origin.clone()),
            ("File", source.file.clone()),
            ("SHA-256 of the file", source.sha256.clone()),
            ("Keys", keys.to_owned()),
            ("Signed", format!("{} entries, root {}", report.signed_size, report.root)),
            ("Witnesses", report.witnesses()),
            (
                "Read",
                format!(
                    "{} entries, {} checkpoints that agree, {} statements",
                    report.entries, report.checkpoints, report.statements
                ),
            ),
        ]));
        if !report.remarks.is_empty() {
            content.push_str(&list(report.remarks.iter().cloned()));
        }
    }
    section("The logs", &content)
}

fn limits() -> String {
    let content = list([
        "It shows that these entries are those the region's key has signed, that later signatures extend earlier ones, \
         and that both logs hold the same signed steps."
            .to_owned(),
        "It cannot show an event that was never written down, nor that clocks were right: the order comes from the logs alone."
            .to_owned(),
        "Without witnesses, whoever holds a region's key and database could have written its history anew before \
         anybody else kept a signed head of it. Each log's head in the other one, receipts and kept heads narrow that."
            .to_owned(),
        "Times are UTC, by the regions' own clocks. People appear under pseudonyms in the logs and not at all on this page."
            .to_owned(),
    ]);
    section("What this shows, and what it cannot", &content)
}

#[cfg(test)]
mod tests {
    use domicile_evidence::keys::{PublicKey, Signer};
    use domicile_evidence::statement::{Lane, SignedStatement};
    use domicile_proto::transfer::v1::Offer;
    use domicile_types::{ConsentId, RegionId, TransferId};

    use super::*;

    const NIL: &str = "00000000-0000-0000-0000-000000000000";

    struct Unsigned;

    impl Signer for Unsigned {
        fn sign(&self, _: &[u8]) -> [u8; 64] {
            [0; 64]
        }
        fn public(&self) -> PublicKey {
            PublicKey::new([0; 32])
        }
    }

    fn stated(bodies: &[Body]) -> Vec<Verified> {
        let transfer = NIL.parse::<TransferId>().unwrap();
        let (eu, ca) = (RegionId::new("eu").unwrap(), RegionId::new("ca").unwrap());
        let (mut ours, theirs) = (Lane::new(transfer, 1, eu), Lane::new(transfer, 1, ca));
        let mut all = Vec::new();
        for body in bodies {
            let statement = ours.next(body, Timestamp::from_micros(1_800_000_000_000_000), &theirs);
            let read = SignedStatement::sign(&Unsigned, statement, body).read().unwrap();
            ours = ours.accept(&read.statement, read.digest).unwrap();
            all.push(read);
        }
        all
    }

    fn consented() -> Body {
        Body::Consented {
            consent: NIL.parse::<ConsentId>().unwrap(),
            consent_digest: [1; 32],
            offer_digest: [2; 32],
            notice_version: "2026-1".to_owned(),
            destination: RegionId::new("ca").unwrap(),
            expires_at: Timestamp::from_micros(1_800_000_600_000_000),
        }
    }

    fn page(bodies: &[Body], receipt: Option<&GetReceiptResponse>, exit: u8) -> String {
        let statements = stated(bodies);
        let statements: Vec<_> = statements.iter().collect();
        let report = Report { region: "eu".to_owned(), ..Report::default() };
        let sources = [Source { file: "<eu>.bundle".to_owned(), sha256: "00".to_owned(), report }];
        let (transfer, made_at) = (NIL.to_owned(), Timestamp::from_micros(1_800_000_000_000_000));
        let statements = statements.as_slice();
        html(&Case { transfer, sources: &sources, comparison: None, statements, receipt, exit, made_at })
    }

    #[test]
    fn a_page_tells_the_consent_and_its_text_and_escapes_what_it_shows() {
        let offer = Offer {
            digest: vec![2; 32].into(),
            notice: "<script>alert(1)</script>\u{202e}".to_owned(),
            ..Offer::default()
        };
        let stays_behind = vec!["an entry & a mark".to_owned()];
        let receipt =
            GetReceiptResponse { offer: Some(offer), stays_behind, ..GetReceiptResponse::default() };
        let shown = page(&[consented()], Some(&receipt), 0);
        assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;·"), "{shown}");
        assert!(shown.contains("&lt;eu&gt;.bundle") && !shown.contains("a mark"), "nothing has moved yet");
        assert!(shown.contains("Everything in these files agrees") && shown.contains("2026-1"));
        assert!(shown.contains("NOT VERIFIED") && shown.contains("No policy pins the keys"));
        for foreign in ["<script", "http://", "https://", "src=", "@import"] {
            assert!(!shown.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_receipt_of_another_offer_brings_no_text() {
        let offer =
            Offer { digest: vec![3; 32].into(), notice: "other words".to_owned(), ..Offer::default() };
        let receipt = GetReceiptResponse { offer: Some(offer), ..GetReceiptResponse::default() };
        let shown = page(&[consented()], Some(&receipt), 0);
        assert!(!shown.contains("other words") && shown.contains("of another offer"), "{shown}");
    }

    #[test]
    fn an_end_is_told_and_what_is_not_proven_is_told_first() {
        let shown = page(&[Body::Aborting { reason: AbortReason::Withdrawn }], None, 15);
        assert!(shown.contains("Not proven: the verifier ends with 15"), "{shown}");
        assert!(
            shown.contains("the client withdrew") && shown.contains("no signed statement of a consent"),
            "{shown}"
        );
    }
}
