//! The `promontory` binary: reads the command line, runs one command, ends with 0, or with 1 and one clear sentence.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use promontory::cli::{CheckCommand, Cli, Command, MetricsArgs, PushCommand, TestCommand, TsdbCommand};
use promontory::client::TcpConnector;
use promontory::commands::query::QueryError;
use promontory::commands::tsdb::TsdbError;
use promontory::{app, commands};

/// Less CPU and memory than the system's allocator on series that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What promtool answers when something can be read but is not as it should be.
const ODD: u8 = 3;
/// What shells expect of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("promontory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Box<dyn std::error::Error>> {
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
        Some(Command::Check(CheckCommand::Dashboard { files })) => commands::check_dashboards(&files, &mut out)?,
        Some(Command::Check(CheckCommand::WebConfig { files })) => commands::check_web_config(&files, &mut out)?,
        Some(Command::Check(CheckCommand::ServiceDiscovery(args))) => {
            commands::check_service_discovery(&args, Arc::new(TcpConnector), &mut out)?
        }
        Some(Command::Check(CheckCommand::Rules { files })) => commands::check_rules(&files, &mut out)?,
        Some(Command::Check(CheckCommand::Metrics(args))) => return check_metrics(&args, &mut out),
        Some(Command::Check(CheckCommand::Healthy(args))) => commands::query::probe(&args, "/-/healthy", &mut out)?,
        Some(Command::Check(CheckCommand::Ready(args))) => commands::query::probe(&args, "/-/ready", &mut out)?,
        Some(Command::Completions { shell }) => {
            commands::completions(shell, &mut out);
            true
        }
        Some(Command::Man { folder }) => {
            commands::man(folder.as_deref(), &mut out)?;
            true
        }
        Some(Command::Test(TestCommand::Promql(args))) => commands::test_promql(&args, &mut out)?,
        Some(Command::Promql(command)) => {
            writeln!(out, "{}", commands::promql::rewrite(&command)?)?;
            true
        }
        Some(Command::Push(PushCommand::Metrics(args))) => {
            commands::push::run(&args, &mut out)?;
            true
        }
        Some(Command::Query(command)) => match commands::query::run(&command, &mut out) {
            Err(QueryError::Report(e)) if e.kind() == ErrorKind::BrokenPipe => true,
            result => {
                result?;
                true
            }
        },
        Some(Command::Render(command)) => {
            app::render(&command)?;
            true
        }
        Some(Command::Tsdb(command)) => return tsdb(&command, &mut out),
    };
    out.flush()?;
    Ok(code(all_good))
}

fn code(all_good: bool) -> ExitCode {
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_metrics(args: &MetricsArgs, out: &mut dyn Write) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let body = commands::read_exposition(None)?;
    if args.strict {
        return Ok(code(commands::check_openmetrics(&body, out)?));
    }
    Ok(match commands::check_metrics(&body, args, out)? {
        commands::Checked::Good => ExitCode::SUCCESS,
        commands::Checked::Odd => ExitCode::from(ODD),
        commands::Checked::Unreadable => ExitCode::FAILURE,
    })
}

fn tsdb(command: &TsdbCommand, out: &mut dyn Write) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match commands::tsdb::run(command, out) {
        Ok(all_good) => Ok(code(all_good)),
        // Who reads only the first lines of a dump has got what it wanted.
        Err(TsdbError::Report(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) if e.is_cancelled() => {
            eprintln!("promontory: stopped; nothing half done is left behind");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(e) => Err(e.into()),
    }
}
