//! The program.

fn main() -> std::process::ExitCode {
    martlet::cli::main()
}
