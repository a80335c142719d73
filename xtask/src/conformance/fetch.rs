//! What others made, fetched through their own package managers into `.conformance`, which git does not see.

use crate::Result;
use headgate_e2e::postgres::bin_dir;
use headgate_e2e::run::{Ran, run};
use headgate_e2e::{during, place};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(900);

/// `.conformance/NAME`.
pub fn cache(name: &str) -> Result<PathBuf> {
    let folder = place::repository().join(".conformance").join(name);
    std::fs::create_dir_all(&folder).map_err(during(folder.display()))?;
    Ok(folder)
}

pub fn own(name: &str) -> PathBuf {
    place::repository().join("conformance").join(name)
}

pub fn good(command: &mut Command) -> Result<String> {
    let words = format!("{command:?}");
    let ran: Ran = run(command, "", PATIENCE).map_err(during(&words))?;
    ran.good().map_err(during(words))
}

/// As `postgres --version` says it: `15.18 (Debian 15.18-0+deb12u1)`.
pub fn server_version() -> Result<String> {
    let said = good(Command::new(bin_dir()?.join("postgres")).arg("--version"))?;
    Ok(said
        .trim()
        .rsplit("(PostgreSQL) ")
        .next()
        .unwrap_or_default()
        .to_owned())
}

fn major() -> Result<String> {
    server_version()?
        .split('.')
        .next()
        .map(str::to_owned)
        .ok_or_else(|| "no version".to_owned())
}

/// Debian's version of the installed server.
fn package_version(package: &str) -> Option<String> {
    let asked = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", package])
        .output()
        .ok()?;
    String::from_utf8(asked.stdout)
        .ok()
        .filter(|version| !version.is_empty())
}

/// apt with lists of its own, so that the machine's are left alone: it may have no `deb-src`.
fn apt(program: &str) -> Result<Command> {
    let lists = cache("apt/lists/partial")?;
    let archives = cache("apt/cache/archives/partial")?;
    let mut command = Command::new(program);
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    command
        .arg("-o")
        .arg(set("Dir::Etc::sourcelist", &cache("apt")?.join("sources.list")));
    command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
    command
        .arg("-o")
        .arg(set("Dir::State::lists", lists.parent().unwrap_or(&lists)));
    command.arg("-o").arg(set(
        "Dir::Cache",
        archives.ancestors().nth(2).unwrap_or(&archives),
    ));
    Ok(command)
}

/// The folder `src/test/regress` of the server's own source package.
pub fn regress_source() -> Result<PathBuf> {
    let sources = cache("postgresql")?;
    let name = format!("postgresql-{}", major()?);
    if let Some(found) = unpacked(&sources, &name)? {
        return Ok(found);
    }
    let release = std::fs::read_to_string("/etc/os-release").map_err(during("/etc/os-release"))?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or("no VERSION_CODENAME in /etc/os-release")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let list: String = [
        ("debian", ""),
        ("debian", "-updates"),
        ("debian-security", "-security"),
    ]
    .iter()
    .map(|(archive, more)| {
        format!("deb-src [signed-by={keys}] http://deb.debian.org/{archive} {codename}{more} main\n")
    })
    .collect();
    let path = cache("apt")?.join("sources.list");
    std::fs::write(&path, list).map_err(during(path.display()))?;
    good(apt("apt-get")?.arg("update"))?;
    let shown = good(apt("apt-cache")?.args(["showsrc", &name]))?;
    let mut versions: Vec<String> = package_version(&name).into_iter().collect();
    // Newest last in the list; a mirror may no longer, or not yet, have what it lists.
    let listed = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Version: "))
        .map(|v| v.trim().to_owned());
    versions.extend(listed.collect::<Vec<_>>().into_iter().rev());
    let mut why = "no version is listed".to_owned();
    for version in versions {
        let fetched = good(
            apt("apt-get")?
                .arg("source")
                .arg(format!("{name}={version}"))
                .current_dir(&sources),
        );
        match (fetched, unpacked(&sources, &name)?) {
            (Ok(_), Some(found)) => return Ok(found),
            (Err(error), _) => why = error,
            _ => {}
        }
    }
    Err(format!("apt-get source {name}: {why}"))
}

fn unpacked(sources: &Path, name: &str) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(sources).map_err(during(sources.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(name))
        .map(|e| e.path().join("src/test/regress"))
        .filter(|folder| folder.join("parallel_schedule").is_file())
        .collect();
    found.sort();
    Ok(found.pop())
}

/// The server's headers, without installing their package: that would want another version of the server.
pub fn server_headers() -> Result<PathBuf> {
    let major = major()?;
    let inside = format!("usr/include/postgresql/{major}/server");
    for folder in [PathBuf::from("/").join(&inside), cache("headers")?.join(&inside)] {
        if folder.join("postgres.h").is_file() {
            return Ok(folder);
        }
    }
    let (headers, package) = (cache("headers")?, format!("postgresql-server-dev-{major}"));
    let exact = package_version(&format!("postgresql-{major}")).map(|version| format!("{package}={version}"));
    let fetched = exact.map(|exact| {
        good(
            Command::new("apt-get")
                .args(["download", &exact])
                .current_dir(&headers),
        )
    });
    if !matches!(fetched, Some(Ok(_))) {
        good(
            Command::new("apt-get")
                .args(["download", &package])
                .current_dir(&headers),
        )?;
    }
    let entries = std::fs::read_dir(&headers).map_err(during(headers.display()))?;
    let archive = entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .ok_or("apt-get download left nothing")?;
    good(Command::new("dpkg").arg("-x").arg(archive).arg(&headers))?;
    Ok(headers.join(inside))
}

/// The interpreter of an environment with what `conformance/suites/requirements.txt` pins.
pub fn python() -> Result<PathBuf> {
    let (folder, pins_path) = (cache("python")?, own("suites/requirements.txt"));
    let pins = std::fs::read(&pins_path).map_err(during(pins_path.display()))?;
    let (venv, done) = (folder.join("venv"), folder.join("installed.txt"));
    let python = venv.join("bin/python");
    if std::fs::read(&done).is_ok_and(|installed| installed == pins) && python.exists() {
        return Ok(python);
    }
    good(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    good(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&pins_path),
    )?;
    std::fs::write(&done, pins).map_err(during(done.display()))?;
    Ok(python)
}

/// What a pin of `requirements.txt` says of a package.
pub fn python_version(package: &str) -> Result<String> {
    let path = own("suites/requirements.txt");
    let pins = std::fs::read_to_string(&path).map_err(during(path.display()))?;
    let found = pins.lines().find_map(|line| {
        line.split_once("==")
            .filter(|(name, _)| name.split('[').next() == Some(package))
    });
    found
        .map(|(_, version)| version.trim().to_owned())
        .ok_or_else(|| format!("{}: no pin of {package}", path.display()))
}

/// The unpacked source distribution of a Python package.
pub fn python_source(package: &str) -> Result<PathBuf> {
    let folder = cache("sdist")?;
    let name = format!("{package}-{}", python_version(package)?);
    let unpacked = folder.join(&name);
    if !unpacked.join("tests").is_dir() {
        let mut pip = Command::new(python()?);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-binary",
            package,
            "--dest",
        ]);
        good(
            pip.arg(&folder)
                .arg(name.replacen(&format!("{package}-"), &format!("{package}=="), 1)),
        )?;
        good(
            Command::new("tar")
                .arg("-xzf")
                .arg(folder.join(format!("{name}.tar.gz")))
                .arg("-C")
                .arg(&folder),
        )?;
    }
    Ok(unpacked)
}

/// The folder of a Go module, its tests with it, in the form of a copy that can be written to.
pub fn go_module(module: &str, version: &str, name: &str) -> Result<PathBuf> {
    let said = good(
        Command::new("go")
            .args(["mod", "download", "-json", &format!("{module}@{version}")])
            .current_dir(cache(name)?),
    )?;
    let answer: serde_json::Value = serde_json::from_str(&said).map_err(during("go mod download"))?;
    let source = answer["Dir"]
        .as_str()
        .ok_or_else(|| format!("go mod download {module}: {said}"))?;
    let folder = cache(name)?.join(version);
    if !folder.join("go.mod").is_file() {
        good(
            Command::new("cp")
                .args(["-r", "-T", "--no-preserve=mode"])
                .arg(source)
                .arg(&folder),
        )?;
    }
    Ok(folder)
}

/// What Maven calls `group:artifact:version:tar.gz:classifier`, unpacked; `inside` is the folder in it.
pub fn maven_archive(artifact: &str, name: &str, inside: &str) -> Result<PathBuf> {
    let folder = cache(name)?;
    let (unpacked, archive) = (folder.join(inside), folder.join(format!("{inside}.tar.gz")));
    if !unpacked.join("pom.xml").is_file() {
        let mut maven = Command::new("mvn");
        maven.args([
            "--quiet",
            "--batch-mode",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
        ]);
        good(
            maven
                .arg(format!("-Dartifact={artifact}"))
                .arg(format!("-DoutputDirectory={}", folder.display()))
                .current_dir(&folder),
        )?;
        good(
            Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(&folder),
        )?;
    }
    Ok(unpacked)
}

/// An npm package's own folder, its tests with it where it carries them.
pub fn npm_package(npm: Command, package: &str, version: &str, into: &Path) -> Result<PathBuf> {
    let unpacked = into.join(package);
    if !unpacked.join("package.json").is_file() {
        let mut npm = npm;
        good(
            npm.args(["pack", "--silent", &format!("{package}@{version}")])
                .current_dir(into),
        )?;
        std::fs::create_dir_all(&unpacked).map_err(during(unpacked.display()))?;
        let archive = into.join(format!("{package}-{version}.tgz"));
        good(
            Command::new("tar")
                .arg("-xzf")
                .arg(archive)
                .arg("-C")
                .arg(&unpacked)
                .arg("--strip-components=1"),
        )?;
    }
    Ok(unpacked)
}
