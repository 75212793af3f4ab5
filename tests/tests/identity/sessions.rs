//! Signing in and out, passwords, and when a session ends.

use super::*;

on_both!(
    a_person_signs_in_and_out,
    a_wrong_password_and_an_unknown_address_look_the_same,
    guessing_is_slowed_down_and_the_owner_still_gets_in,
    a_session_ends_when_idle_and_in_any_case,
    a_stolen_session_ends_with_a_password_change,
    a_password_is_proved_again,
    a_record_that_moves_takes_its_sign_in_along,
    an_address_leads_on_where_the_client_wished_so,
);

async fn a_person_signs_in_and_out(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, "  Clara.NORD@mail.example ").await.unwrap();
    bench.activate(&client.invitation).await.unwrap();

    let opened = bench.sign_in(CLIENT, PASSWORD).await.unwrap();
    let entry = last(&bench).await;
    assert_eq!((entry.event.name(), entry.role), ("identity.sign_in", Role::Client));
    assert_eq!(entry.actor, Some(account(&client.account_id)), "the entry names who signed in");
    assert_eq!(entry.subject, Some(*client.subject_id.parse::<SubjectId>().unwrap().as_bytes()));

    let me = who(&bench, &opened.token).await.unwrap();
    assert_eq!((me.role.as_str(), me.region.as_str()), ("client", "eu"));
    assert_eq!((&me.account_id, &me.subject_id), (&client.account_id, &client.subject_id));
    assert_eq!(last(&bench).await.event.name(), "identity.who_am_i");
    let admin = who(&bench, &practice.token).await.unwrap();
    assert_eq!((admin.role.as_str(), admin.practice_id), ("practice_admin", practice.id.clone()));

    bench.signed_in(&opened.token).unwrap().sign_out(SignOutRequest {}).await.unwrap();
    assert_eq!(code(who(&bench, &opened.token).await), (Code::Unauthenticated, Grpc::Unauthenticated));
    let entry = last(&bench).await;
    assert_eq!(entry.event.name(), "identity.who_am_i");
    assert!(entry.outcome != Outcome::Ok, "a refused request is in the log too");
    for nonsense in ["", "short", &"A".repeat(43), &"A".repeat(200)] {
        refused(who(&bench, nonsense).await, Code::Unauthenticated);
    }
    who(&bench, &practice.token).await.unwrap();
}

/// P37: failures too are in the log.
async fn a_wrong_password_and_an_unknown_address_look_the_same(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
    bench.activate(&client.invitation).await.unwrap();

    let wrong = bench.sign_in(CLIENT, OTHER_PASSWORD).await.map(drop).unwrap_err();
    let entry = last(&bench).await;
    assert_eq!((entry.event.name(), entry.role, entry.actor), ("identity.sign_in", Role::Anonymous, None));
    assert_eq!(entry.subject, Some(*client.subject_id.parse::<SubjectId>().unwrap().as_bytes()));
    assert!(entry.outcome != Outcome::Ok);
    let unknown = bench.sign_in("nobody@mail.example", OTHER_PASSWORD).await.map(drop).unwrap_err();
    assert_eq!(last(&bench).await.subject, None);
    assert_eq!((wrong.code(), wrong.message()), (unknown.code(), unknown.message()));
    assert_eq!(wrong.code(), Grpc::Unauthenticated);
    refused(bench.sign_in("not an address", PASSWORD).await, Code::InvalidRequest);
    refused(bench.sign_in(CLIENT, "").await, Code::InvalidRequest);
}

async fn guessing_is_slowed_down_and_the_owner_still_gets_in(backend: Backend) {
    let bench = eu(backend).await;
    bench.bootstrap().await.unwrap();
    let owner = "olu@operator.example";
    for _ in 0..5 {
        refused(bench.sign_in(owner, OTHER_PASSWORD).await, Code::SignInFailed);
    }
    let slowed = bench.sign_in(owner, OTHER_PASSWORD).await.map(drop).unwrap_err();
    assert_eq!(slowed.code(), Grpc::ResourceExhausted);
    assert!(from_status(&slowed).wait().is_some_and(|wait| wait <= MINUTE), "it says when to come back");
    bench.sign_in("cora@operator.example", PASSWORD).await.unwrap();
    let patient = async {
        loop {
            match bench.sign_in(owner, PASSWORD).await {
                Ok(_) => break,
                Err(status) => {
                    let wait = from_status(&status).wait().unwrap();
                    bench.clock.advance(wait);
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patient).await.unwrap();
}

/// P49: sessions idle out after 15 minutes and end after 8 hours.
async fn a_session_ends_when_idle_and_in_any_case(backend: Backend) {
    let bench = eu(backend).await;
    let [idle, used] = bench.bootstrap().await.unwrap();
    let quarter = Duration::from_secs(15 * 60);
    bench.clock.advance(quarter - Duration::from_secs(1));
    who(&bench, &used).await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    refused(who(&bench, &idle).await, Code::Unauthenticated);
    refused(who(&bench, &idle).await, Code::Unauthenticated);
    for _ in 0..46 {
        who(&bench, &used).await.unwrap();
        bench.clock.advance(10 * MINUTE);
    }
    who(&bench, &used).await.unwrap();
    bench.clock.advance(5 * MINUTE);
    refused(who(&bench, &used).await, Code::Unauthenticated);
}

/// P49: on password change the others end, on every replica at once.
async fn a_stolen_session_ends_with_a_password_change(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    let own = bench.join(&client.invitation, CLIENT).await.unwrap();
    let stolen = bench.sign_in(CLIENT, PASSWORD).await.unwrap().token;
    who(&bench, &stolen).await.unwrap();
    let replica = bench.replica().await.unwrap();
    replica.actor(&stolen).await.unwrap();

    let change = |old: &str, new: &str| ChangePasswordRequest {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let mut me = bench.signed_in(&own).unwrap();
    refused(me.change_password(change(OTHER_PASSWORD, "yellow bicycle 1907")).await, Code::SignInFailed);
    refused(me.change_password(change(PASSWORD, "too short")).await, Code::PasswordWeak);
    refused(me.change_password(change(PASSWORD, PASSWORD)).await, Code::PasswordWeak);
    refused(me.change_password(change(PASSWORD, "Clara.Nord@mail.example")).await, Code::PasswordWeak);
    who(&bench, &stolen).await.unwrap();
    me.change_password(change(PASSWORD, OTHER_PASSWORD)).await.unwrap();
    let names: Vec<_> = entries(&bench).await.iter().map(|entry| entry.event.name()).collect();
    assert_eq!(names[names.len() - 2..], ["identity.session_ended", "identity.password_change"]);

    assert_eq!(code(who(&bench, &stolen).await), (Code::Unauthenticated, Grpc::Unauthenticated));
    assert_eq!(replica.actor(&stolen).await.unwrap_err().code(), Code::Unauthenticated);
    replica.actor(&own).await.unwrap();
    who(&bench, &own).await.unwrap();
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
    bench.sign_in(CLIENT, OTHER_PASSWORD).await.unwrap();
    who(&bench, &practice.token).await.unwrap();
}

async fn a_password_is_proved_again(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    bench.clock.advance(10 * MINUTE);
    let mut me = bench.signed_in(&operator).unwrap();
    let prove = |password: &str| ReauthenticateRequest { password: password.to_owned() };
    refused(me.reauthenticate(prove(OTHER_PASSWORD)).await, Code::SignInFailed);
    let until = me.reauthenticate(prove(PASSWORD)).await.unwrap().into_inner().fresh_until_micros;
    let now = domicile_types::Clock::now(&bench.clock);
    assert_eq!(Timestamp::from_micros(until), now.plus(bench.sessions.fresh));
    let actor = bench.identity.actor(&operator).await.unwrap();
    assert_eq!(actor.authenticated_at, Some(now));
    assert_eq!(last(&bench).await.event.name(), "identity.reauthenticate");
}

async fn set_standing(bench: &Bench, subject: SubjectId, standing: Standing) {
    let moved = bench.store.write_unaudited("test.standing", Scope::Subject(subject), move |tx| {
        Box::pin(async move {
            let mut home = residency::lock(tx, subject).await?.unwrap();
            home.standing = standing;
            home.epoch += 1;
            home.moved_to = RegionId::new("ca").ok();
            residency::set(tx, &home).await
        })
    });
    moved.await.unwrap();
}

async fn a_record_that_moves_takes_its_sign_in_along(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let created = bench.client(&practice.token, CLIENT).await.unwrap();
    let subject: SubjectId = created.subject_id.parse().unwrap();
    let client = bench.join(&created.invitation, CLIENT).await.unwrap();
    let change = |old: &str, new: &str| ChangePasswordRequest {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let mut me: IdentityClient = bench.signed_in(&client).unwrap();
    set_standing(&bench, subject, Standing::Frozen).await;
    me.change_password(change(PASSWORD, OTHER_PASSWORD)).await.unwrap();
    set_standing(&bench, subject, Standing::Released).await;
    // The sign-in has been sealed into the release: a later change here would be lost.
    refused(me.change_password(change(OTHER_PASSWORD, PASSWORD)).await, Code::RecordMoved);
    bench.sign_in(CLIENT, OTHER_PASSWORD).await.unwrap();

    let hash = bench.identity.actor(&client).await.unwrap().session.unwrap();
    set_standing(&bench, subject, Standing::Departed).await;
    let shredded = bench.store.write_unaudited("test.shred", Scope::Subject(subject), move |tx| {
        Box::pin(async move {
            residency::entitle(tx, subject, &[Entitled::Session(hash)]).await?;
            tx.execute("DELETE FROM session WHERE subject_id = $1", values![subject]).await?;
            tx.execute("DELETE FROM account WHERE subject_id = $1", values![subject]).await.map(drop)
        })
    });
    shredded.await.unwrap();
    let moved = from_status(&who(&bench, &client).await.map(drop).unwrap_err());
    assert_eq!(moved.code(), Code::RecordMoved);
    assert_eq!(moved.moved(), Some(&(RegionId::new("ca").unwrap(), 4)));
    refused(who(&bench, &"B".repeat(43)).await, Code::Unauthenticated);
    refused(bench.sign_in(CLIENT, OTHER_PASSWORD).await, Code::SignInFailed);
}

/// The client may leave word at the source of where they went.
async fn an_address_leads_on_where_the_client_wished_so(backend: Backend) {
    let bench = eu(backend).await;
    let key = bench.keyring.region_key(RegionKey::BlindIndex).await.unwrap();
    let index = domicile_crypto::blind::index(&key, "email", CLIENT);
    let until = domicile_types::Clock::now(&bench.clock).plus(MINUTE);
    let kept = bench.store.write_unaudited("test.locator", Scope::System, move |tx| {
        let sql = "INSERT INTO forwarding_locator (email_index, region, expires_at) VALUES ($1, 'ca', $2)";
        Box::pin(async move { tx.execute(sql, values![index, until]).await })
    });
    kept.await.unwrap();
    let moved =
        from_status(&bench.sign_in(" Clara.Nord@mail.example", PASSWORD).await.map(drop).unwrap_err());
    assert_eq!(moved.code(), Code::RecordMoved);
    assert_eq!(moved.moved().map(|(region, _)| region.as_str()), Some("ca"));
    refused(bench.sign_in("nobody@mail.example", PASSWORD).await, Code::SignInFailed);
    bench.clock.advance(MINUTE);
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
}
