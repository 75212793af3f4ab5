//! Exported logs, verified offline by the command an auditor would use.

use domicile_cli::client::answer;
use domicile_proto::audit::v1::ExportBundleRequest;

use super::{Outcome, World, run};

/// What the verifier said.
pub struct Verdicts(pub String);

impl World {
    /// Exports a region's log into the world's folder.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn export(&self, region: &str, transfer: &str) -> Outcome<String> {
        let auditor = self.auditor(region).await?;
        let request = ExportBundleRequest { transfer_id: transfer.to_owned() };
        let mut stream = answer(auditor.audit().export_bundle(request)).await?;
        let mut content = Vec::new();
        while let Some(piece) = stream.message().await.map_err(|status| domicile_rpc::from_status(&status))? {
            content.extend_from_slice(&piece.content);
        }
        let path = self.folder.join(format!("{region}.bundle"));
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// Exports both logs and verifies them offline, comparing a transfer's steps.
    ///
    /// # Errors
    /// When the verifier finds anything.
    pub async fn verify(&self, regions: [&str; 2], transfer: &str) -> Outcome<Verdicts> {
        let first = self.export(regions[0], transfer).await?;
        let second = self.export(regions[1], transfer).await?;
        let policy = self.folder.join("policy.json").display().to_string();
        let arguments = ["audit", "verify", &first, "--policy", &policy, "--transfer", transfer];
        // One log agrees with itself whatever it says.
        if run(&[arguments.as_slice(), &[&first]].concat()).await.is_ok() {
            return Err("one log was taken for two".into());
        }
        Ok(Verdicts(run(&[arguments.as_slice(), &[&second]].concat()).await?))
    }

    /// The page about a transfer, from the bundles that [`World::verify`] has exported and somebody's receipt.
    ///
    /// # Errors
    /// When the command finds anything, or says anything but that it wrote the page.
    pub async fn report(&self, regions: [&str; 2], transfer: &str, receipt: &str) -> Outcome<String> {
        let in_folder = |name: String| self.folder.join(name).display().to_string();
        let bundles = regions.map(|region| in_folder(format!("{region}.bundle")));
        let policy = in_folder("policy.json".to_owned());
        let (receipt_file, page) =
            (in_folder(format!("{transfer}.json")), in_folder(format!("{transfer}.html")));
        std::fs::write(&receipt_file, receipt)?;
        let [first, second] = &bundles;
        let arguments = ["audit", "report", first, second, "--policy", &policy, "--transfer", transfer];
        let more = ["--receipt", &receipt_file, "--out", &page];
        run(&[arguments.as_slice(), &more].concat()).await?;
        Ok(std::fs::read_to_string(page)?)
    }
}
