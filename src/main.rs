//! The `promontory` binary: reads the command line, runs one command, ends with 0, or with 1 and one clear sentence.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use promontory::cli::{CheckCommand, Cli, Command, TestCommand, TsdbCommand};
use promontory::{app, commands};

/// Less CPU and memory than the system's allocator on series that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("promontory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<bool, Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let all_good = match cli.command {
        None => {
            app::serve(&cli.serve)?;
            true
        }
        Some(Command::Serve(args)) => {
            app::serve(&args)?;
            true
        }
        #[cfg(feature = "demo")]
        Some(Command::Demo(args)) => {
            app::demo(&args)?;
            true
        }
        Some(Command::Check(CheckCommand::Config { files })) => commands::check_config(&files, &mut out)?,
        Some(Command::Test(TestCommand::Promql(args))) => commands::test_promql(&args, &mut out)?,
        Some(Command::Tsdb(TsdbCommand::List { path })) => commands::tsdb_list(&path, &mut out)?,
        Some(Command::Tsdb(TsdbCommand::Verify { path })) => commands::tsdb_verify(&path, &mut out)?,
    };
    out.flush()?;
    Ok(all_good)
}
