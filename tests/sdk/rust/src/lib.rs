//! What every probe does: an answer line for each line of stdin, or its client's version.

use std::env;
use std::error::Error;
use std::io::{self, Write};

pub type Failure = Box<dyn Error>;

/// What S3 a probe reads, and what of it.
pub struct Target {
    pub endpoint: String,
    pub bucket: String,
    pub key: String,
}

impl Target {
    /// What the environment says; a variable that is missing is empty.
    pub fn from_env() -> Self {
        let read = |name| env::var(name).unwrap_or_default();
        Self {
            endpoint: read("S3_ENDPOINT"),
            bucket: read("S3_BUCKET"),
            key: read("S3_KEY"),
        }
    }
}

/// Print `ok BODY` or `error TEXT` for each line of stdin; with `--version`, the package's version.
///
/// `make_client` is called for the first line, and again only for as long as it fails; `fetch` returns
/// the object's text.
pub async fn answer<Client>(
    package: &str,
    make_client: impl AsyncFn(&Target) -> Result<Client, Failure>,
    fetch: impl AsyncFn(&Client, &Target) -> Result<String, Failure>,
) -> Result<(), Failure> {
    if env::args().nth(1).as_deref() == Some("--version") {
        println!("{package} {}", pinned_version(package));
        return Ok(());
    }
    let target = Target::from_env();
    let mut client = None;
    for line in io::stdin().lines() {
        line?;
        match fetch_once(&mut client, &target, &make_client, &fetch).await {
            Ok(text) => println!("ok {text}"),
            Err(failure) => println!("error {}", in_one_line(failure.as_ref())),
        }
        io::stdout().flush()?;
    }
    Ok(())
}

async fn fetch_once<Client>(
    client: &mut Option<Client>,
    target: &Target,
    make_client: &impl AsyncFn(&Target) -> Result<Client, Failure>,
    fetch: &impl AsyncFn(&Client, &Target) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let ready = match client.take() {
        Some(ready) => ready,
        None => make_client(target).await?,
    };
    fetch(client.insert(ready), target).await
}

/// An error's text and those of its causes: what the SDK says by itself is often no more than "dispatch failure".
fn in_one_line(failure: &dyn Error) -> String {
    let mut texts = vec![failure.to_string()];
    let mut cause = failure.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
        .join(": ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The version that Cargo.toml pins: not every crate exports its own.
fn pinned_version(package: &str) -> &'static str {
    include_str!("../Cargo.toml")
        .lines()
        .find(|line| line.starts_with(package))
        .and_then(|line| line.split('"').nth(1))
        .map_or("of unknown version", |version| {
            version.trim_start_matches('=')
        })
}
