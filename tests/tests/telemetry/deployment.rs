//! Deployments whose processes send to a receiver.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use domicile_tests::world::{Outcome, Plan, World, executable};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A deployment whose processes send to `endpoint`, with more settings of telemetry.
pub(crate) async fn sending(
    within: &Path,
    regions: &[&str],
    absent: &[&str],
    endpoint: &str,
    more: &str,
) -> Outcome<World> {
    let telemetry: toml::Table =
        format!("endpoint = \"{endpoint}\"\ninterval = \"1s\"\ndelay = \"200ms\"\n{more}").parse()?;
    let log: toml::Table = "filter = \"info,domicile_rpc=debug\"".parse()?;
    let mut settings = toml::Table::new();
    settings.insert("telemetry".to_owned(), telemetry.into());
    settings.insert("log".to_owned(), log.into());
    let plan = Plan {
        executable: executable()?,
        within: within.to_owned(),
        regions: regions.iter().map(|region| ((*region).to_owned(), None)).collect::<BTreeMap<_, _>>(),
        absent: absent.iter().map(|region| (*region).to_owned()).collect(),
        coordinator: false,
        settings: settings.clone(),
    };
    let mut world = World::launch(plan).await?;
    configure(&world, "coordinator", &settings)?;
    if absent.is_empty() {
        world.restart("coordinator").await?;
    }
    Ok(world)
}

/// Puts tables in the place of those of a process's settings.
pub(crate) fn configure(world: &World, name: &str, tables: &toml::Table) -> Outcome<()> {
    let file = world.home(name).join("config.toml");
    let mut settings: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    settings.extend(tables.clone());
    std::fs::write(&file, toml::to_string(&settings)?)?;
    Ok(())
}

/// Runs a command of the command line, with these lines typed and these variables set.
pub(crate) async fn command(
    folder: &Path,
    arguments: &[&str],
    typed: &str,
    variables: &[(&str, &str)],
) -> Outcome<String> {
    let mut command = Command::new(executable()?);
    command.arg("--data").arg(folder).args(arguments);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(typed.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    if output.status.success() { Ok(out) } else { Err(format!("{arguments:?}: {out}{err}").into()) }
}

/// The names of a process's threads, as the kernel cuts them.
pub(crate) fn threads(pid: u32) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        names.push(std::fs::read_to_string(task?.path().join("comm"))?.trim().to_owned());
    }
    Ok(names)
}
