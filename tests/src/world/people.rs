//! Accounts, practices and clients of a world. Every name is made up.

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_config::policy::RegionPolicy;
use domicile_proto::identity::v1::{
    AcceptEnrolmentRequest, ActivateAccountRequest, CreateClientRequest, CreatePracticeRequest,
    GetEnrolmentRequest, ReauthenticateRequest, SignAgreementRequest, SignInRequest,
};

use super::{Outcome, World, run_with};
use crate::region::PASSWORD;

/// How somebody signs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: String,
}

/// A practice whose administrator treats clients, known in several regions.
pub struct Practice {
    /// Its id.
    pub id: String,
    /// The administrator, who is a practitioner too.
    pub login: Login,
    /// Their account.
    pub account: String,
    /// Signed in at home.
    pub home: Client,
}

/// A client.
#[derive(Clone)]
pub struct Patient {
    /// How they sign in.
    pub login: Login,
    /// Their record.
    pub subject: String,
    /// Signed in where the record began.
    pub client: Client,
}

impl World {
    /// The first accounts, by `domicile bootstrap`: fresh codes for those that `up --prepare` has made.
    pub(super) async fn first_accounts(&mut self, region: &str) -> Outcome<()> {
        let config = self.home(region).join("config.toml").display().to_string();
        let login = |role: &str| Login {
            email: format!("{role}@{region}.domicile.local"),
            password: PASSWORD.to_owned(),
        };
        let (operator, auditor) = (login("operator"), login("compliance"));
        let arguments = [
            "bootstrap",
            "--config",
            &config,
            "--operator-email",
            &operator.email,
            "--operator-name",
            "O. Perator",
            "--compliance-email",
            &auditor.email,
            "--compliance-name",
            "A. Uditor",
            "--json",
        ];
        let made: serde_json::Value = serde_json::from_str(&run_with(&self.executable, &arguments).await?)?;
        for (role, login) in [("operator", &operator), ("compliance", &auditor)] {
            let code = made[role]["invitation"].as_str().ok_or("no invitation")?;
            self.activate(region, code, login).await?;
        }
        self.operators.insert(region.to_owned(), operator);
        self.auditors.insert(region.to_owned(), auditor);
        Ok(())
    }

    /// Sets an invited person's password and signs them in.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn activate(&self, region: &str, code: &str, login: &Login) -> Outcome<Client> {
        let request = ActivateAccountRequest { code: code.to_owned(), password: login.password.clone() };
        answer(self.anyone(region)?.identity().activate_account(request)).await?;
        self.sign_in(region, login).await
    }

    /// Signs somebody in.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn sign_in(&self, region: &str, login: &Login) -> Outcome<Client> {
        let client = self.anyone(region)?;
        let request = SignInRequest { email: login.email.clone(), password: login.password.clone() };
        let token = answer(client.identity().sign_in(request)).await?.token;
        Ok(client.with_token(&token)?)
    }

    /// The region's operator.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn operator(&self, region: &str) -> Outcome<Client> {
        self.sign_in(region, self.operators.get(region).ok_or("no operator")?).await
    }

    /// The region's compliance officer.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn auditor(&self, region: &str) -> Outcome<Client> {
        self.sign_in(region, self.auditors.get(region).ok_or("no auditor")?).await
    }

    /// A practice at home in a region and enrolled in others.
    ///
    /// # Errors
    /// What the regions answer.
    pub async fn practice(&self, name: &str, home: &str, others: &[&str]) -> Outcome<Practice> {
        let login = Login { email: format!("{name}@practice.example"), password: PASSWORD.to_owned() };
        let request = CreatePracticeRequest {
            name: format!("Praxis {name}"),
            admin_email: login.email.clone(),
            admin_name: format!("Dr. {name}"),
            data_role: "controller".to_owned(),
        };
        let created = answer(self.operator(home).await?.identity().create_practice(request)).await?;
        let client = self.activate(home, &created.invitation, &login).await?;
        let version = self.agreement(home)?;
        answer(client.identity().sign_agreement(SignAgreementRequest { version })).await?;
        let practice =
            Practice { id: created.practice_id, account: created.admin_account_id, login, home: client };
        if !others.is_empty() {
            self.enrol(&practice, others).await?;
        }
        Ok(practice)
    }

    async fn enrol(&self, practice: &Practice, others: &[&str]) -> Outcome<()> {
        let destinations = others.iter().map(|&region| region.to_owned()).collect();
        let request = GetEnrolmentRequest { practice_id: String::new(), destinations };
        let enrolment = answer(practice.home.identity().get_enrolment(request)).await?.enrolment;
        for region in others {
            let request = AcceptEnrolmentRequest { enrolment: enrolment.clone() };
            let accepted = answer(self.operator(region).await?.identity().accept_enrolment(request)).await?;
            let mine = accepted.invitations.iter().find(|invited| invited.account_id == practice.account);
            self.activate(region, &mine.ok_or("not invited")?.code, &practice.login).await?;
        }
        Ok(())
    }

    fn agreement(&self, region: &str) -> Outcome<String> {
        let path = self.folder.join("regions").join(format!("{region}.toml"));
        Ok(RegionPolicy::parse(&std::fs::read_to_string(path)?)?.agreement.version)
    }

    /// A client in the practitioner's caseload.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn patient(&self, region: &str, practice: &Practice, name: &str) -> Outcome<Patient> {
        let login = Login { email: format!("{name}@client.example"), password: PASSWORD.to_owned() };
        let request = CreateClientRequest {
            email: login.email.clone(),
            name: format!("Client {name}"),
            practitioner_id: String::new(),
            region_chosen_by_client: true,
        };
        let created = answer(practice.home.identity().create_client(request)).await?;
        let client = self.activate(region, &created.invitation, &login).await?;
        Ok(Patient { login, subject: created.subject_id, client })
    }
}

impl Patient {
    /// Proves the password again.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn reauthenticate(&self) -> Outcome<()> {
        let request = ReauthenticateRequest { password: self.login.password.clone() };
        answer(self.client.identity().reauthenticate(request)).await?;
        Ok(())
    }
}
