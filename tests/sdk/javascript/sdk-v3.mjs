// AWS SDK for JavaScript 3. Nothing is said about credentials or the region: its defaults find both.

import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";

import { answerLines, target } from "./lines.mjs";

await answerLines("@aws-sdk/client-s3", () => {
  const s3 = new S3Client({ endpoint: target.endpoint, forcePathStyle: true });
  return async () => {
    const answer = await s3.send(new GetObjectCommand({ Bucket: target.bucket, Key: target.key }));
    return answer.Body.transformToString();
  };
});
