#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    domicile_hostile::targets::run("auditor_policy", data);
});
