package probes;

import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.regions.DefaultAwsRegionProviderChain;
import com.amazonaws.services.s3.AmazonS3;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.util.VersionInfoUtils;
import java.io.IOException;

/** AWS SDK for Java 1. Nothing is said about credentials: its default chain finds them. */
final class SdkV1 {
    private SdkV1() {
    }

    public static void main(String[] arguments) throws IOException {
        String version = "com.amazonaws:aws-java-sdk-s3 " + VersionInfoUtils.getVersion();
        Lines.answer(arguments, version, SdkV1::makeClient);
    }

    private static Lines.FetchText makeClient() {
        // Who names an endpoint here has to name a region with it; this is where the builder itself would look.
        String region = new DefaultAwsRegionProviderChain().getRegion();
        AmazonS3 s3 = AmazonS3ClientBuilder.standard()
                .withEndpointConfiguration(new EndpointConfiguration(Lines.ENDPOINT, region))
                .withPathStyleAccessEnabled(true)
                .build();
        return () -> s3.getObjectAsString(Lines.BUCKET, Lines.KEY);
    }
}
