//! The people of the story. Every name is made up.

use std::collections::BTreeMap;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_cli::failure::{Failure, Result};
use domicile_config::policy::RegionPolicy;
use domicile_proto::identity::v1::{
    AcceptEnrolmentRequest, CreateClientRequest, CreatePracticeRequest, CreatePractitionerRequest,
    GetEnrolmentRequest, Invitation, SignAgreementRequest,
};
use domicile_types::RegionId;

use super::stage::{Login, Stage};

/// The practice and its practitioner, known in both regions.
pub(super) struct Practice {
    /// The practitioner, signed in at the source.
    pub(super) at_source: Client,
    /// The same, signed in at the destination.
    pub(super) at_destination: Client,
}

/// A client of the practice.
pub(super) struct Person {
    /// How they sign in, in whichever region is home.
    pub(super) login: Login,
    /// Their record.
    pub(super) subject: String,
    /// Signed in at the source.
    pub(super) at_source: Client,
}

/// Creates the practice with its administrator and practitioner, and enrols it at the destination.
pub(super) async fn practice(stage: &Stage<'_>) -> Result<Practice> {
    let admin = login(stage, "admin@lindenhof.example");
    let created = create_practice(stage, &admin).await?;
    let administrator = stage.activate(&stage.source, created.1, &admin).await?;
    let version = agreement(stage, &stage.source)?;
    answer(administrator.identity().sign_agreement(SignAgreementRequest { version })).await?;

    let practitioner = login(stage, "dr.weber@lindenhof.example");
    let request =
        CreatePractitionerRequest { email: practitioner.email.clone(), name: "Dr. Jana Weber".to_owned() };
    let invited = answer(administrator.identity().create_practitioner(request)).await?;
    let at_source = stage.activate(&stage.source, invited.invitation, &practitioner).await?;

    let invitations = enrol(stage, &administrator).await?;
    let code = invitations.get(&invited.account_id).cloned();
    let code = code
        .ok_or_else(|| Failure::local("the enrolment invited no practitioner", "See the regions' logs."))?;
    let at_destination = stage.activate(&stage.destination, code, &practitioner).await?;
    Ok(Practice { at_source, at_destination })
}

async fn create_practice(stage: &Stage<'_>, admin: &Login) -> Result<(String, String)> {
    let operator = stage.operator(&stage.source).await?;
    let request = CreatePracticeRequest {
        name: "Praxis Lindenhof".to_owned(),
        admin_email: admin.email.clone(),
        admin_name: "Ruth Okafor".to_owned(),
        data_role: "controller".to_owned(),
    };
    let created = answer(operator.identity().create_practice(request)).await?;
    Ok((created.practice_id, created.invitation))
}

/// The version of the agreement as the region's policy names it.
fn agreement(stage: &Stage<'_>, region: &RegionId) -> Result<String> {
    let path = stage.deployment.layout().policies().join(format!("{region}.toml"));
    let text = std::fs::read_to_string(&path).map_err(|cause| Failure::file(&path, &cause))?;
    Ok(RegionPolicy::parse(&text)?.agreement.version)
}

/// Hands the practice's signed enrolment to the destination; its invitations by account.
async fn enrol(stage: &Stage<'_>, administrator: &Client) -> Result<BTreeMap<String, String>> {
    let destinations = Vec::from([stage.destination.to_string()]);
    let request = GetEnrolmentRequest { practice_id: String::new(), destinations };
    let enrolment = answer(administrator.identity().get_enrolment(request)).await?.enrolment;
    let operator = stage.operator(&stage.destination).await?;
    let accepted = answer(operator.identity().accept_enrolment(AcceptEnrolmentRequest { enrolment })).await?;
    let by_account = |Invitation { account_id, code }| (account_id, code);
    Ok(accepted.invitations.into_iter().map(by_account).collect())
}

/// Creates a client in the practitioner's caseload.
pub(super) async fn client(
    stage: &Stage<'_>,
    practice: &Practice,
    name: &str,
    email: &str,
) -> Result<Person> {
    let login = login(stage, email);
    let request = CreateClientRequest {
        email: login.email.clone(),
        name: name.to_owned(),
        practitioner_id: String::new(),
        region_chosen_by_client: true,
    };
    let created = answer(practice.at_source.identity().create_client(request)).await?;
    let at_source = stage.activate(&stage.source, created.invitation, &login).await?;
    Ok(Person { login, subject: created.subject_id, at_source })
}

fn login(stage: &Stage<'_>, email: &str) -> Login {
    Login { email: email.to_owned(), password: stage.password() }
}
