//! The executable.

/// The C library's allocator keeps what its threads once needed: signing in and moving large objects left a
/// region with twice the memory that it uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    domicile::main()
}
