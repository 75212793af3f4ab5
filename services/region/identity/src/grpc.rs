//! `domicile.identity.v1`: decode, call, encode.

use std::collections::BTreeSet;

use domicile_evidence::enrolment::SignedEnrolment;
use domicile_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use domicile_proto::identity::v1::{
    AcceptEnrolmentRequest, AcceptEnrolmentResponse, ActivateAccountRequest, ActivateAccountResponse,
    ChangePasswordRequest, ChangePasswordResponse, CreateClientRequest, CreateClientResponse,
    CreatePracticeRequest, CreatePracticeResponse, CreatePractitionerRequest, CreatePractitionerResponse,
    Enrolment, GetEnrolmentRequest, GetEnrolmentResponse, Identity as Who, Invitation, ReauthenticateRequest,
    ReauthenticateResponse, SignAgreementRequest, SignAgreementResponse, SignInRequest, SignInResponse,
    SignOutRequest, SignOutResponse, WhoAmIRequest, WhoAmIResponse,
};
use domicile_rpc::{scope, to_status};
use domicile_store::queries::residency::RegionChoice;
use domicile_types::{Actor, Code, Error, RegionId, Result};
use tonic::{Request, Response, Status};

use crate::app::{Identity, Invited, NewClient, NewPractice};

type Answer<T> = Result<Response<T>, Status>;

impl Identity {
    /// The gRPC service.
    #[must_use]
    pub fn service(&self) -> IdentityServiceServer<Self> {
        IdentityServiceServer::new(self.clone())
    }

    fn who(&self, actor: &Actor) -> Who {
        Who {
            account_id: actor.account.map(|id| id.to_string()).unwrap_or_default(),
            role: actor.role.as_str().to_owned(),
            subject_id: actor.subject.map(|id| id.to_string()).unwrap_or_default(),
            practice_id: actor.practice.map(|id| id.to_string()).unwrap_or_default(),
            region: self.region().to_string(),
        }
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn sign_in(&self, request: Request<SignInRequest>) -> Answer<SignInResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let SignInRequest { email, password } = request.into_inner();
        let opened = Self::sign_in(self, &scope, &email, password).await.map_err(to_status)?;
        Ok(Response::new(SignInResponse {
            identity: Some(self.who(&opened.actor)),
            ends_at_micros: opened.ends_at.micros(),
            token: opened.token,
        }))
    }

    async fn sign_out(&self, request: Request<SignOutRequest>) -> Answer<SignOutResponse> {
        let scope = scope(&request).map_err(to_status)?;
        Self::sign_out(self, &scope).await.map_err(to_status)?;
        Ok(Response::new(SignOutResponse {}))
    }

    async fn reauthenticate(
        &self,
        request: Request<ReauthenticateRequest>,
    ) -> Answer<ReauthenticateResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let password = request.into_inner().password;
        let until = Self::reauthenticate(self, &scope, password).await.map_err(to_status)?;
        Ok(Response::new(ReauthenticateResponse { fresh_until_micros: until.micros() }))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Answer<ChangePasswordResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let ChangePasswordRequest { old_password, new_password } = request.into_inner();
        Self::change_password(self, &scope, old_password, new_password).await.map_err(to_status)?;
        Ok(Response::new(ChangePasswordResponse {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        let scope = scope(&request).map_err(to_status)?;
        Ok(Response::new(WhoAmIResponse { identity: Some(self.who(&scope.actor)) }))
    }

    async fn activate_account(
        &self,
        request: Request<ActivateAccountRequest>,
    ) -> Answer<ActivateAccountResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let ActivateAccountRequest { code, password } = request.into_inner();
        let account = self.activate(&scope, &code, password).await.map_err(to_status)?;
        Ok(Response::new(ActivateAccountResponse { account_id: account.to_string() }))
    }

    async fn create_practice(
        &self,
        request: Request<CreatePracticeRequest>,
    ) -> Answer<CreatePracticeResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let CreatePracticeRequest { name, admin_email, admin_name, data_role } = request.into_inner();
        let admin = (admin_email.as_str(), admin_name.as_str());
        let created =
            Self::create_practice(self, &scope, &name, &data_role, admin).await.map_err(to_status)?;
        let NewPractice { practice, admin: Invited { account, code } } = created;
        Ok(Response::new(CreatePracticeResponse {
            practice_id: practice.to_string(),
            admin_account_id: account.to_string(),
            invitation: code,
        }))
    }

    async fn sign_agreement(&self, request: Request<SignAgreementRequest>) -> Answer<SignAgreementResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let version = request.into_inner().version;
        let signed = Self::sign_agreement(self, &scope, &version).await.map_err(to_status)?;
        Ok(Response::new(SignAgreementResponse { signed_at_micros: signed.micros() }))
    }

    async fn create_practitioner(
        &self,
        request: Request<CreatePractitionerRequest>,
    ) -> Answer<CreatePractitionerResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let CreatePractitionerRequest { email, name } = request.into_inner();
        let created = Self::create_practitioner(self, &scope, &email, &name).await.map_err(to_status)?;
        let Invited { account, code } = created;
        Ok(Response::new(CreatePractitionerResponse { account_id: account.to_string(), invitation: code }))
    }

    async fn create_client(&self, request: Request<CreateClientRequest>) -> Answer<CreateClientResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let CreateClientRequest { email, name, practitioner_id, region_chosen_by_client } =
            request.into_inner();
        let choice =
            if region_chosen_by_client { RegionChoice::Client } else { RegionChoice::PracticeDefault };
        let practitioner = maybe_id(&practitioner_id, "practitioner_id").map_err(to_status)?;
        let created = Self::create_client(self, &scope, (&email, &name), practitioner, choice).await;
        let NewClient { subject, invited: Invited { account, code } } = created.map_err(to_status)?;
        Ok(Response::new(CreateClientResponse {
            account_id: account.to_string(),
            subject_id: subject.to_string(),
            invitation: code,
        }))
    }

    async fn get_enrolment(&self, request: Request<GetEnrolmentRequest>) -> Answer<GetEnrolmentResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let GetEnrolmentRequest { practice_id, destinations } = request.into_inner();
        let practice = maybe_id(&practice_id, "practice_id").map_err(to_status)?;
        let destinations = regions(&destinations).map_err(to_status)?;
        let signed = self.enrolment(&scope, practice, destinations).await.map_err(to_status)?;
        let SignedEnrolment { content, signature } = signed;
        let enrolment = Enrolment { content, signature: signature.to_vec() };
        Ok(Response::new(GetEnrolmentResponse { enrolment: Some(enrolment) }))
    }

    async fn accept_enrolment(
        &self,
        request: Request<AcceptEnrolmentRequest>,
    ) -> Answer<AcceptEnrolmentResponse> {
        let scope = scope(&request).map_err(to_status)?;
        let signed = signed(request.into_inner().enrolment).map_err(to_status)?;
        let (practice, invited) = self.accept(&scope, signed).await.map_err(to_status)?;
        let invitation = |Invited { account, code }| Invitation { account_id: account.to_string(), code };
        Ok(Response::new(AcceptEnrolmentResponse {
            practice_id: practice.to_string(),
            invitations: invited.into_iter().map(invitation).collect(),
        }))
    }
}

/// An id as text; empty is none.
fn maybe_id<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::new(Code::InvalidRequest).at(field))
}

fn regions(names: &[String]) -> Result<BTreeSet<RegionId>> {
    let region =
        |name: &String| RegionId::new(name).map_err(|_| Error::new(Code::InvalidRequest).at("destinations"));
    names.iter().map(region).collect()
}

fn signed(enrolment: Option<Enrolment>) -> Result<SignedEnrolment> {
    let missing = || Error::new(Code::InvalidRequest).at("enrolment");
    let Enrolment { content, signature } = enrolment.ok_or_else(missing)?;
    SignedEnrolment::from_parts(content, &signature)
        .ok_or_else(|| Error::new(Code::StatementInvalid).at("enrolment"))
}
