// Builds the static guest binary. Included by the build script of `atoll` and by tests, with `include!` or `#[path]`.

/// Builds `atoll-guest` statically linked for the host, with the toolchain alone, and returns its path.
///
/// It has a target directory of its own, so that it can run within another cargo.
///
/// # Errors
/// What cargo wrote, or why it could not be run.
pub(crate) fn build_static_guest() -> Result<std::path::PathBuf, String> {
    use std::path::PathBuf;
    use std::process::Command;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("-vV")
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let triple = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc does not say which machine it is for")?;

    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = target.join("guest");
    let output = Command::new(cargo)
        .current_dir(&workspace)
        .args(["build", "--quiet", "--package", "atoll-guest", "--bin", "atoll-guest", "--profile", "release-small"])
        .args(["--target", triple, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the guest does not build:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(target.join(triple).join("release-small").join("atoll-guest"))
}
