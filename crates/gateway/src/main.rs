//! The `silverback` command.

use std::process::ExitCode;

use silverback::Gateway;

fn main() -> ExitCode {
    Gateway::bundled().main()
}
