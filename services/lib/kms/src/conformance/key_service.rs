//! What a key service must do.

use domicile_crypto::service::MAX_WRAP;
use domicile_crypto::{KeyContext, KeyService, Purpose};
use domicile_types::{Code, Ctx, PracticeId, RegionId, Result, TransferId};

use super::{Verdict, fails, given, holds};

/// Runs the suite against a key service. It calls a remote one some hundred times.
///
/// # Errors
/// What the service did that it must not.
pub async fn key_service(service: &dyn KeyService, ctx: &Ctx) -> Verdict {
    key_service_rows(service, ctx).await.into_iter().try_for_each(|(_, verdict)| verdict)
}

/// The same, row by row: for servers that only stand in for a key service and show some rows alone.
pub async fn key_service_rows(service: &dyn KeyService, ctx: &Ctx) -> [(&'static str, Verdict); 6] {
    [
        ("answers and names its key", answers(service).await),
        ("generates another key each time", makes_fresh_keys(service).await),
        ("unwraps what it wrapped, to 4 KiB", unwraps_what_it_wrapped(service).await),
        ("unwraps in its own context alone", unwraps_in_its_own_context_alone(service, ctx).await),
        ("refuses a changed byte, wherever", refuses_a_changed_byte(service).await),
        ("refuses a cut, wherever", refuses_a_cut(service).await),
    ]
}

async fn answers(service: &dyn KeyService) -> Verdict {
    given(service.health().await, "a service under test answers")?;
    let info = service.describe();
    holds(!info.id.is_empty() && !info.provider.is_empty(), "a service says which key it uses")
}

fn region(name: &str) -> Result<RegionId, String> {
    RegionId::new(name).map_err(|error| error.to_string())
}

async fn makes_fresh_keys(service: &dyn KeyService) -> Verdict {
    let context = KeyContext::region(region("eu")?, Purpose::PracticeKey);
    let one = given(service.generate_data_key(&context).await, "generate")?;
    let two = given(service.generate_data_key(&context).await, "generate")?;
    holds(one.plain != two.plain && one.wrapped != two.wrapped, "each key is another")?;
    let again = given(service.unwrap(&context, &one.wrapped).await, "unwrap a generated key")?;
    holds(again.as_slice() == one.plain.expose(), "a generated key unwraps to itself")?;
    let shown = one.wrapped.windows(32).any(|window| window == one.plain.expose());
    holds(!shown, "a wrapped key does not show the key")
}

async fn unwraps_what_it_wrapped(service: &dyn KeyService) -> Verdict {
    let context = KeyContext::region(region("eu")?, Purpose::HpkePrivate);
    for length in [1, 32, 66, MAX_WRAP] {
        let plain = vec![0xA5; length];
        let wrapped = given(service.wrap(&context, &plain).await, "wrap")?;
        let again = given(service.unwrap(&context, &wrapped).await, "unwrap")?;
        holds(again.as_slice() == plain, "a secret unwraps to itself")?;
    }
    let long = service.wrap(&context, &[0; MAX_WRAP + 1]).await;
    holds(fails(&long, Code::TooLarge), "a longer secret is refused")
}

async fn unwraps_in_its_own_context_alone(service: &dyn KeyService, ctx: &Ctx) -> Verdict {
    let (practice, transfer) = (PracticeId::generate(ctx), TransferId::generate(ctx));
    let plain = KeyContext::region(region("eu")?, Purpose::Travel);
    let contexts = [
        plain.clone(),
        KeyContext { region: region("us")?, ..plain.clone() },
        KeyContext { purpose: Purpose::HpkePrivate, ..plain.clone() },
        plain.clone().practice(Some(practice)),
        plain.clone().practice(Some(PracticeId::generate(ctx))),
        plain.clone().transfer(transfer),
        plain.clone().transfer(TransferId::generate(ctx)),
        // The same sixteen bytes as another thing's id.
        plain.clone().transfer(TransferId::from_uuid(practice.uuid())),
        plain.practice(Some(practice)).transfer(transfer),
    ];
    for (at, own) in contexts.iter().enumerate() {
        let wrapped = given(service.wrap(own, b"secret").await, "wrap")?;
        for (other_at, other) in contexts.iter().enumerate() {
            let opened = service.unwrap(other, &wrapped).await;
            let right = if at == other_at { opened.is_ok() } else { fails(&opened, Code::KeyDenied) };
            holds(right, &format!("wrapped in {own:?}, unwrapped in {other:?}"))?;
        }
    }
    Ok(())
}

async fn refuses_a_changed_byte(service: &dyn KeyService) -> Verdict {
    let context = KeyContext::region(region("eu")?, Purpose::Travel);
    let wrapped = given(service.wrap(&context, b"secret").await, "wrap")?;
    for at in 0..wrapped.len() {
        let mut bad = wrapped.clone();
        if let Some(byte) = bad.get_mut(at) {
            *byte ^= 0x20;
        }
        let opened = service.unwrap(&context, &bad).await;
        holds(fails(&opened, Code::KeyDenied), &format!("byte {at} changed: {:?}", opened.err()))?;
    }
    Ok(())
}

async fn refuses_a_cut(service: &dyn KeyService) -> Verdict {
    let context = KeyContext::region(region("eu")?, Purpose::Travel);
    let wrapped = given(service.wrap(&context, b"secret").await, "wrap")?;
    for at in 0..wrapped.len() {
        let cut = wrapped.get(..at).unwrap_or_default();
        let opened = service.unwrap(&context, cut).await;
        holds(fails(&opened, Code::KeyDenied), &format!("cut after {at} bytes: {:?}", opened.err()))?;
    }
    Ok(())
}
