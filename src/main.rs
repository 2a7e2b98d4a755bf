//! Arguments, then configuration, then the app; exit codes are `cli`'s.

use std::process::ExitCode;

use clap::Parser;
use optgate::cli::{self, Cli};

/// An allocator that suits one runtime a core: memory is freed where it was taken.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // clap prints usage errors itself and exits with 2.
    let cli = Cli::parse();
    match cli::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&mut std::io::stderr());
            ExitCode::from(failure.exit_code())
        }
    }
}
