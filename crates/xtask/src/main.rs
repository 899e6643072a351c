//! The commands of this repository: `cargo xtask demo`, `test`, `schemathesis`, `bench`, `docs`.

mod admin_api;
mod bench;
mod demo;
mod docs;
mod gateway;
mod prerequisites;
mod progress;
mod repo;
mod schemathesis;
mod test;
mod walls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Silverback's workshop.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start a gateway with Postgres and an upstream, and print the calls to try.
    Demo(demo::Args),
    /// Check everything that has to hold before a change goes in.
    Test(test::Args),
    /// Send the Admin API what its OpenAPI document allows and what it does not, and look at every answer.
    Schemathesis(schemathesis::Args),
    /// Measure the gateway against a bare proxy, nginx and no proxy at all.
    Bench(bench::Args),
    /// Refresh the generated parts of the documents.
    Docs {
        /// Change nothing, fail when something is stale.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Schemathesis(args) => schemathesis::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Docs { check } => docs::run(check),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For whoever typed the command: what went wrong, not where in our code it was noticed.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
