//! The `silverback` command, for tests that start it as a process.

use std::process::ExitCode;

use silverback::Gateway;

fn main() -> ExitCode {
    Gateway::bundled().main()
}
