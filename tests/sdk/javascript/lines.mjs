// What every probe does: an answer line for each line of stdin, or its client's version.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);

/** What S3 the probe reads, and what of it. */
export const target = {
  endpoint: process.env.S3_ENDPOINT,
  bucket: process.env.S3_BUCKET,
  key: process.env.S3_KEY,
};

/**
 * Answer each line of stdin with `ok BODY` or `error TEXT`; with `--version`, print the package's version.
 *
 * `makeClient` is called for the first line, and again only for as long as it fails. It returns the function
 * that fetches the object's text.
 */
export async function answerLines(packageName, makeClient) {
  if (process.argv[2] === "--version") {
    console.log(`${packageName} ${require(`${packageName}/package.json`).version}`);
    return;
  }
  let fetchText;
  for await (const _ of createInterface({ input: process.stdin })) {
    try {
      fetchText ??= makeClient();
      console.log(`ok ${await fetchText()}`);
    } catch (error) {
      console.log(`error ${error.name}: ${error.message}`.replaceAll(/\s+/g, " "));
    }
  }
}
