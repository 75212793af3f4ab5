# Every habit of this repository. `just` alone lists them.

# List the habits.
default:
    @just --list

# Run every test, as the continuous integration does.
test:
    bash tests/run

# Everything the continuous integration checks.
ci:
    bash .ci/run

# Formatting and lints; warnings are errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Format the code.
fmt:
    cargo fmt --all

# Start four regions and the coordinator on this machine; Ctrl-C stops them.
up *ARGS:
    cargo run --release -- up {{ ARGS }}

# Show a record moving from the EU to Canada, and a consent withdrawn in time.
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# Check licences, sources and banned crates with cargo-deny (the tests check the same without it).
deny:
    cargo deny --all-features check bans licenses sources

# Write the pages of the error codes anew after a change of the code table.
error-pages:
    DOMICILE_BLESS=1 cargo test -p domicile-tests --test error_codes
