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
    cargo run --release --locked -- up {{ ARGS }}

# Show a record moving from the EU to Canada, and a consent withdrawn in time.
demo *ARGS:
    cargo run --release --locked -- demo {{ ARGS }}

# Simulate this many seeds, from FIRST on: regions, coordinators, clients and an operator under every fault.
simulate N="1000" FIRST="0":
    SIMULATE={{ N }} SIMULATE_FIRST={{ FIRST }} cargo test --locked -p domicile-simulation --test simulation seeds_keep -- --nocapture

# Run one seed again, with every event.
simulate-seed SEED:
    SIMULATE_SEED={{ SEED }} cargo test --locked -p domicile-simulation --test simulation one_seed -- --nocapture

# Check advisories, licences, sources and banned crates with cargo-deny; fetches the advisory database.
deny:
    cargo deny --locked --all-features check advisories bans licenses sources

# Write the bill of materials of the executable, CycloneDX, from the locked graph.
sbom TARGET="x86_64-unknown-linux-gnu":
    cargo run --quiet --locked -p domicile-sbom -- {{ TARGET }} > sbom.cdx.json

# Build what is shipped: optimised for size and speed, its commit in `domicile --version`, its list beside it.
dist: sbom
    DOMICILE_COMMIT="$(git rev-parse HEAD)$(git diff --quiet HEAD || echo +changed)" cargo build --profile dist --locked
    cargo run --quiet --locked -p domicile-tests --bin domicile-kills -- absent target/dist/domicile

# Kill every process at every effect of a transfer; goes on where it stopped (docs/reliability.md).
kill-matrix *ARGS="run":
    cargo build --locked -p domicile -p domicile-tests --bins
    target/debug/domicile-kills {{ ARGS }}

# Record a deployment with a transfer in each state, for the next release to go on from (docs/reliability.md).
record-fixtures *ARGS:
    cargo build --locked -p domicile -p domicile-tests --bins
    target/debug/domicile-kills record {{ ARGS }}

# Cut, slow down and half close the network between two regions and the coordinator; needs root and iproute2.
netns *ARGS:
    cargo build --locked -p domicile -p domicile-tests --bins
    target/debug/domicile-kills netns {{ ARGS }}

# Write the pages of the error codes anew after a change of the code table.
error-pages:
    DOMICILE_BLESS=1 cargo test --locked -p domicile-tests --test error_codes

# Explore the transfer protocol's larger bounds, or those whose name contains TEXT (docs/reliability.md).
model TEXT="deep":
    DOMICILE_MODEL="{{ TEXT }}" cargo test --locked -p domicile-transfer-protocol --test model -- every_invariant --nocapture

# Fuzz one decoder of outside bytes, or all, for so many seconds each (docs/reliability.md).
fuzz TARGET="all" SECONDS="120":
    bash tests/fuzz/run {{ TARGET }} {{ SECONDS }}

# Measure this machine: writes, reads, transfers, freeze, memory; about half an hour (docs/performance.md).
bench *ARGS="all --domicile-without-audit target/release/domicile-without-audit":
    cargo build --release --locked -p domicile --features bench-without-audit
    cp target/release/domicile target/release/domicile-without-audit
    cargo build --release --locked -p domicile -p domicile-tests --bins
    target/release/domicile-bench {{ ARGS }}
