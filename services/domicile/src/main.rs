//! The executable.

fn main() -> std::process::ExitCode {
    domicile::main()
}
