# The AWS SDK for Ruby 3: one client, one object fetched per line on stdin (docs/testing.md has the contract).
require "aws-sdk-s3"

if ARGV == ["--version"]
  puts "aws-sdk-core #{Aws::CORE_GEM_VERSION}"
  exit
end

$stdout.sync = true
s3 = nil
$stdin.each_line do
  # A client looks for its credentials when it is made, and renews them by itself.
  s3 ||= Aws::S3::Client.new(endpoint: ENV.fetch("S3_ENDPOINT"), force_path_style: true)
  body = s3.get_object(bucket: ENV.fetch("S3_BUCKET"), key: ENV.fetch("S3_KEY")).body.read
  puts "ok #{body}"
rescue StandardError => e
  puts "error #{e.inspect.tr("\n", ' ')}"
end
