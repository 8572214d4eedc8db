//! The program; all of it is in the library, where fuzz targets reach it, too.

fn main() -> std::process::ExitCode {
    calve_agent::main()
}
