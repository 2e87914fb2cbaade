//! AWS SDK for Rust. Nothing is said about credentials or the region: aws-config's defaults find both.

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use probes::{Failure, Target, answer};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    answer("aws-config", make_client, fetch).await
}

async fn make_client(target: &Target) -> Result<Client, Failure> {
    let defaults = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let settings = Builder::from(&defaults)
        .endpoint_url(&target.endpoint)
        .force_path_style(true);
    Ok(Client::from_conf(settings.build()))
}

async fn fetch(client: &Client, target: &Target) -> Result<String, Failure> {
    let answer = client
        .get_object()
        .bucket(&target.bucket)
        .key(&target.key)
        .send()
        .await?;
    let bytes = answer.body.collect().await?.into_bytes();
    Ok(String::from_utf8(bytes.into())?)
}
