// AWS SDK for JavaScript 2. Nothing is said about credentials or the region: its defaults find the first.

import AWS from "aws-sdk";

import { answerLines, target } from "./lines.mjs";

await answerLines("aws-sdk", () => {
  const s3 = new AWS.S3({ endpoint: target.endpoint, s3ForcePathStyle: true });
  return async () => {
    const answer = await s3.getObject({ Bucket: target.bucket, Key: target.key }).promise();
    return answer.Body.toString();
  };
});
