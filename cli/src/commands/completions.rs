//! `completions`: a shell completion script on standard output.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;

pub(crate) fn run(shell: Shell) {
    clap_complete::generate(shell, &mut Arguments::command(), "mellama", &mut std::io::stdout().lock());
}
