//! object_store. It reads the environment when it is told to, and signs for us-east-1 when that names no region.

use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use probes::{Failure, Target, answer};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    answer("object_store", make_client, fetch).await
}

async fn make_client(target: &Target) -> Result<AmazonS3, Failure> {
    let settings = AmazonS3Builder::from_env()
        .with_endpoint(&target.endpoint)
        .with_bucket_name(&target.bucket);
    Ok(settings.with_allow_http(true).build()?) // for the endpoint above; metadata is asked by http anyway
}

async fn fetch(store: &AmazonS3, target: &Target) -> Result<String, Failure> {
    let bytes = store
        .get(&Path::from(target.key.as_str()))
        .await?
        .bytes()
        .await?;
    Ok(String::from_utf8(bytes.into())?)
}
