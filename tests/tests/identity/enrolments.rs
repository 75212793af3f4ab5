//! A practice's enrolment, from its home region to another.

use super::*;

on_both!(
    an_enrolment_makes_a_practice_known_elsewhere,
    a_forged_or_stale_enrolment_is_refused,
    an_instruction_is_the_controllers_to_give,
);

/// A home region and another that knows its statement key.
async fn pair(backend: Backend) -> (Bench, Bench) {
    let nobody = TestSigner::generate().unwrap().public();
    let home = Bench::new("eu", backend, &[("ca", nobody), ("us", nobody)]).await.unwrap();
    let away = Bench::new("ca", backend, &[("eu", home.signer.public()), ("us", nobody)]).await.unwrap();
    (home, away)
}

async fn export(home: &Bench, token: &str, to: &[&str]) -> Result<EnrolmentMessage, Status> {
    let destinations = to.iter().map(|to| (*to).to_owned()).collect();
    let request = GetEnrolmentRequest { practice_id: String::new(), destinations };
    let answer = home.signed_in(token).unwrap().get_enrolment(request).await?;
    Ok(answer.into_inner().enrolment.unwrap())
}

async fn accept(
    away: &Bench,
    token: &str,
    enrolment: EnrolmentMessage,
) -> Result<AcceptEnrolmentResponse, Status> {
    let request = AcceptEnrolmentRequest { enrolment: Some(enrolment) };
    Ok(away.signed_in(token).unwrap().accept_enrolment(request).await?.into_inner())
}

async fn an_enrolment_makes_a_practice_known_elsewhere(backend: Backend) {
    let (home, away) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let [other_operator, _] = away.bootstrap().await.unwrap();
    let unsigned = home.unsigned_practice(&operator, "u@unsigned.example").await.unwrap();
    refused(export(&home, &unsigned.token, &["ca"]).await, Code::AgreementMissing);
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let id: PracticeId = practice.id.parse().unwrap();
    let ca = RegionId::new("ca").unwrap();
    refused(export(&home, &practice.token, &["au"]).await, Code::TransferNotAllowed);
    assert!(!home.identity.practice_instructs(id, &ca).await.unwrap());
    let enrolment = export(&home, &practice.token, &["ca"]).await.unwrap();
    assert!(home.identity.practice_instructs(id, &ca).await.unwrap());
    assert!(!away.identity.practice_known(id).await.unwrap());

    let accepted = accept(&away, &other_operator, enrolment.clone()).await.unwrap();
    assert_eq!(last(&away).await.event.name(), "identity.enrolment_accept");
    assert!(away.identity.practice_known(id).await.unwrap());
    assert_eq!(accepted.practice_id, practice.id);
    let [invitation] = &accepted.invitations[..] else { panic!("one practitioner") };
    assert_eq!(invitation.account_id, practice.admin, "the same id as at home");

    let again = accept(&away, &other_operator, enrolment.clone()).await.unwrap();
    let [renewed] = &again.invitations[..] else { panic!("one practitioner") };
    refused(away.activate(&invitation.code).await, Code::InvitationInvalid);
    let token = away.join(&renewed.code, ADMIN).await.unwrap();
    let me = who(&away, &token).await.unwrap();
    assert_eq!((me.role.as_str(), &me.practice_id), ("practitioner", &practice.id));
    assert!(accept(&away, &other_operator, enrolment).await.unwrap().invitations.is_empty());
    refused(away.client(&token, CLIENT).await, Code::AgreementMissing);
    refused(
        away.signed_in(&other_operator)
            .unwrap()
            .get_enrolment(GetEnrolmentRequest { practice_id: practice.id.clone(), destinations: Vec::new() })
            .await,
        Code::NotFound,
    );

    home.clock.advance(MINUTE);
    let mut admin = home.signed_in(&practice.token).unwrap();
    let colleague =
        CreatePractitionerRequest { email: "pia@praxis.example".to_owned(), name: "Pia".to_owned() };
    let pia = admin.create_practitioner(colleague).await.unwrap().into_inner();
    let newer = export(&home, &practice.token, &[]).await.unwrap();
    let accepted = accept(&away, &other_operator, newer).await.unwrap();
    let [invitation] = &accepted.invitations[..] else { panic!("the new practitioner alone") };
    assert_eq!(invitation.account_id, pia.account_id);
}

fn signed(signer: &TestSigner, enrolment: &Enrolment) -> EnrolmentMessage {
    let SignedEnrolment { content, signature } = SignedEnrolment::sign(signer, enrolment);
    EnrolmentMessage { content, signature: signature.to_vec() }
}

async fn a_forged_or_stale_enrolment_is_refused(backend: Backend) {
    let (home, away) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let [other_operator, _] = away.bootstrap().await.unwrap();
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let genuine = export(&home, &practice.token, &["ca", "us"]).await.unwrap();
    let content = Enrolment::decode(&genuine.content).unwrap();
    let refuse =
        async |enrolment, expected| refused(accept(&away, &other_operator, enrolment).await, expected);

    let mut flipped = genuine.clone();
    flipped.signature[7] ^= 1;
    refuse(flipped, Code::StatementInvalid).await;
    let mut altered = genuine.clone();
    altered.content = Enrolment { name: "Somebody else".to_owned(), ..content.clone() }.encode();
    refuse(altered, Code::StatementInvalid).await;
    let forger = TestSigner::generate().unwrap();
    refuse(signed(&forger, &content), Code::StatementInvalid).await;
    let unknown = Enrolment { home: RegionId::new("zz").unwrap(), ..content.clone() };
    refuse(signed(&home.signer, &unknown), Code::StatementInvalid).await;
    let another = Enrolment { home: RegionId::new("us").unwrap(), ..content.clone() };
    refuse(signed(&home.signer, &another), Code::StatementInvalid).await;
    let not_here = Enrolment { destinations: vec![RegionId::new("us").unwrap()], ..content.clone() };
    refuse(signed(&home.signer, &not_here), Code::TransferNotAllowed).await;
    refuse(EnrolmentMessage { content: b"garbage".to_vec(), ..genuine.clone() }, Code::StatementInvalid)
        .await;
    refuse(EnrolmentMessage { signature: vec![1; 3], ..genuine.clone() }, Code::StatementInvalid).await;
    assert!(!away.identity.practice_known(content.practice).await.unwrap());

    accept(&away, &other_operator, genuine.clone()).await.unwrap();
    let older = Enrolment { at: content.at.minus(MINUTE), ..content.clone() };
    refuse(signed(&home.signer, &older), Code::Conflict).await;
    // A home region may not claim people or practices that belong to others here.
    let local = away.practice(&other_operator, "lou@local.example").await.unwrap();
    let claimed = Practitioner {
        account: local.admin.parse().unwrap(),
        name: "Lou".to_owned(),
        email: "new@local.example".to_owned(),
    };
    let later = content.at.plus(MINUTE);
    let claim = Enrolment { practitioners: vec![claimed], at: later, ..content.clone() };
    refuse(signed(&home.signer, &claim), Code::Conflict).await;
    let practice = Enrolment { practice: local.id.parse().unwrap(), at: later, ..content.clone() };
    refuse(signed(&home.signer, &practice), Code::Conflict).await;
    let address = Practitioner {
        account: AccountId::generate(&Ctx::system()),
        name: "Lou".to_owned(),
        email: "lou@local.example".to_owned(),
    };
    let address = Enrolment { practitioners: vec![address], at: later, ..content.clone() };
    refuse(signed(&home.signer, &address), Code::AccountExists).await;
    who(&away, &local.token).await.unwrap();

    // Whom the practice no longer names, is closed.
    let guest = accept(&away, &other_operator, genuine).await.unwrap().invitations.remove(0);
    let token = away.join(&guest.code, ADMIN).await.unwrap();
    let empty = Enrolment { practitioners: Vec::new(), at: later, ..content };
    accept(&away, &other_operator, signed(&home.signer, &empty)).await.unwrap();
    refused(who(&away, &token).await, Code::Unauthenticated);
    refused(away.sign_in(ADMIN, PASSWORD).await, Code::SignInFailed);
}

/// P3: whose instruction it is depends on who the controller is.
async fn an_instruction_is_the_controllers_to_give(backend: Backend) {
    let (home, _) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let other = home.practice(&operator, "otto@elsewhere.example").await.unwrap();
    let ask = |practice: &str, to: &[&str]| GetEnrolmentRequest {
        practice_id: practice.to_owned(),
        destinations: to.iter().map(|to| (*to).to_owned()).collect(),
    };
    let mut op = home.signed_in(&operator).unwrap();
    refused(op.get_enrolment(ask(&practice.id, &["ca"])).await, Code::Forbidden);
    refused(op.get_enrolment(ask("", &["ca"])).await, Code::InvalidRequest);
    let mut admin = home.signed_in(&practice.token).unwrap();
    refused(admin.get_enrolment(ask(&other.id, &["ca"])).await, Code::NotFound);
    refused(admin.get_enrolment(ask("", &["Canada"])).await, Code::InvalidRequest);
    admin.get_enrolment(ask(&practice.id, &["ca"])).await.unwrap();
    let repeated =
        op.get_enrolment(ask(&practice.id, &["ca"])).await.unwrap().into_inner().enrolment.unwrap();
    let content = Enrolment::decode(&repeated.content).unwrap();
    assert_eq!(content.destinations, [RegionId::new("ca").unwrap()]);
    assert_eq!((content.name.as_str(), content.practitioners.len()), ("Praxis am Hafen", 1));
    refused(op.get_enrolment(ask(&practice.id, &["ca", "us"])).await, Code::Forbidden);
}

/// The key a test pins is the key a region signs with.
#[test]
fn a_signer_is_known_by_its_public_key() {
    let signer = TestSigner::generate().unwrap();
    let key: PublicKey = signer.public();
    key.verify("test", b"message", &signer.sign(b"message")).unwrap();
}
