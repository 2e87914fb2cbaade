package probes;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

/** What every probe does: an answer line for each line of stdin, or its client's version. */
final class Lines {
    /** What S3 a probe reads, and what of it; null for what the environment lacks. */
    static final String ENDPOINT = System.getenv("S3_ENDPOINT");
    static final String BUCKET = System.getenv("S3_BUCKET");
    static final String KEY = System.getenv("S3_KEY");

    /** Returns the object's text. */
    interface FetchText {
        String fetch() throws IOException;
    }

    /** Makes the client. */
    interface MakeClient {
        FetchText make();
    }

    private Lines() {
    }

    /**
     * Prints {@code ok BODY} or {@code error TEXT} for each line of stdin; with {@code --version}, the version.
     *
     * <p>{@code makeClient} is called for the first line, and again only for as long as it fails. Errors of the
     * virtual machine end the program.
     */
    static void answer(String[] arguments, String version, MakeClient makeClient) throws IOException {
        if (arguments.length > 0 && arguments[0].equals("--version")) {
            System.out.println(version);
            return;
        }
        FetchText client = null;
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        while (input.readLine() != null) {
            try {
                if (client == null) {
                    client = makeClient.make();
                }
                System.out.println("ok " + client.fetch());
            } catch (IOException | RuntimeException error) {
                System.out.println("error " + inOneLine(error));
            }
        }
    }

    private static String inOneLine(Exception error) {
        return error.toString().strip().replaceAll("\\s+", " ");
    }
}
