//! The options of `atoll up`, taken from the environment and given on to a plane in the background.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::{ModelArgs, PortArgs, UpArgs};

impl UpArgs {
    /// What `atoll up` without options means here: environment variables count.
    ///
    /// # Errors
    /// One of these variables has a value that its option would not take.
    pub(crate) fn of_environment() -> Result<Self, clap::Error> {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            up: UpArgs,
        }
        Ok(Alone::try_parse_from(["atoll up"])?.up)
    }

    /// The same options as words, for a plane in a process of its own that stays in the foreground.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        // Every field is named, so that a new option cannot be forgotten here.
        let Self {
            detach: _,
            model: ModelArgs { model, script },
            ports: PortArgs { api_port, router_port, platform_port, policy_port },
            policy,
            max_agent_concurrency,
            execution_timeout_seconds,
            egress_credentials,
            log,
            log_format,
        } = self;
        let log_format = log_format.to_possible_value().expect("no form is hidden").get_name().to_owned();
        let always = [
            ("--api-port", api_port.to_string()),
            ("--router-port", router_port.to_string()),
            ("--platform-port", platform_port.to_string()),
            ("--policy-port", policy_port.to_string()),
            ("--max-agent-concurrency", max_agent_concurrency.to_string()),
            ("--execution-timeout-seconds", execution_timeout_seconds.to_string()),
            ("--log", log.clone()),
            ("--log-format", log_format),
        ];
        let given = [
            ("--model", model.clone().map(OsString::from)),
            ("--script", script.clone().map(PathBuf::into_os_string)),
            ("--policy", policy.clone().map(PathBuf::into_os_string)),
            ("--egress-credentials", egress_credentials.clone().map(PathBuf::into_os_string)),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always
            .into_iter()
            .map(|(name, value)| (name, OsString::from(value)))
            .chain(given)
            .flat_map(|(name, value)| [OsString::from(name), value])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_plane_in_the_background_gets_the_options_given() {
        let given = [
            "atoll",
            "up",
            "--detach",
            "--script",
            "talk.yaml",
            "--api-port",
            "1",
            "--router-port",
            "2",
            "--platform-port",
            "3",
            "--policy-port",
            "4",
            "--policy",
            "p.yaml",
            "--max-agent-concurrency",
            "5",
            "--execution-timeout-seconds",
            "6",
            "--egress-credentials",
            "c.yaml",
            "--log",
            "info",
            "--log-format",
            "json",
        ];
        let parse = |words: Vec<OsString>| match Cli::try_parse_from(words).expect("it parses").command {
            Command::Up(args) => args,
            other => panic!("not `up`: {other:?}"),
        };
        let args = parse(given.iter().map(OsString::from).collect());
        let words = ["atoll", "up"].into_iter().map(OsString::from).chain(args.to_words()).collect();
        let foreground = UpArgs { detach: false, ..args };
        assert_eq!(format!("{:?}", parse(words)), format!("{foreground:?}"));
    }
}
