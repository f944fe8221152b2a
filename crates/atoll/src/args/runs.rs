//! `atoll runs`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    #[command(visible_alias = "list")]
    Ls,
    /// Show one run: state, agents, tokens, what it waits for
    Show {
        /// The run's id, or the beginning of it
        run: String,
        /// Follow it until it ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Stop a run
    Cancel {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Let nothing new begin in a run; what is under way comes to its end
    Pause {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Let a paused run go on
    Resume {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Say something to an agent that is at work; it hears it at its next step
    Tell {
        /// The run's id, or the beginning of it
        run: String,
        /// What to say
        text: String,
        /// Number of the agent within the run
        #[arg(long, default_value_t = 0, value_name = "N")]
        agent: u32,
    },
    /// List the steps of a run's work that `undo` can go back to
    Steps {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Give a finished run's branch the files of an earlier step, as one more commit; your checkout is not touched
    Undo {
        /// The run's id, or the beginning of it
        run: String,
        /// The step; without it the one before the last, 0 for where the run started
        step: Option<u64>,
    },
    /// Open a pull request out of a finished run's work, once a person has approved exactly what is sent
    Pr {
        /// The run's id, or the beginning of it
        run: String,
        /// The branch it is to go into; the one that was checked out when nothing is said
        #[arg(long, value_name = "BRANCH")]
        base: Option<String>,
    },
    /// Fetch the branch a run made into your repository
    Fetch {
        /// The run's id, or the beginning of it
        run: String,
        /// The repository
        #[arg(long, default_value = ".", value_name = "PATH")]
        repo: PathBuf,
    },
}
