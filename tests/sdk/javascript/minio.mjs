// minio-js. It takes credentials from metadata only when it is given its IamAwsProvider.

import { text } from "node:stream/consumers";

import { Client, IamAwsProvider } from "minio";

import { answerLines, target } from "./lines.mjs";

await answerLines("minio", () => {
  const where = new URL(target.endpoint);
  const client = new Client({
    endPoint: where.hostname,
    port: Number(where.port),
    useSSL: false,
    region: process.env.AWS_REGION, // unset: it asks S3 for the bucket's
    credentialsProvider: new IamAwsProvider({
      customEndpoint: process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT, // it reads no such variable itself
    }),
  });
  return async () => text(await client.getObject(target.bucket, target.key));
});
