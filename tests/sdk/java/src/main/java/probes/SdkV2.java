package probes;

import java.io.IOException;
import java.net.URI;
import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.services.s3.S3Client;

/** AWS SDK for Java 2. Nothing is said about credentials or the region: its defaults find both. */
final class SdkV2 {
    private SdkV2() {
    }

    public static void main(String[] arguments) throws IOException {
        Lines.answer(arguments, "software.amazon.awssdk:s3 " + VersionInfo.SDK_VERSION, SdkV2::makeClient);
    }

    private static Lines.FetchText makeClient() {
        S3Client s3 = S3Client.builder()
                .endpointOverride(URI.create(Lines.ENDPOINT))
                .forcePathStyle(true)
                .build();
        return () -> s3.getObjectAsBytes(wanted -> wanted.bucket(Lines.BUCKET).key(Lines.KEY)).asUtf8String();
    }
}
