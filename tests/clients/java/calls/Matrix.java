import java.nio.charset.StandardCharsets;
import java.util.Scanner;

/** The calls of the client matrix; each library says how it makes them. */
public interface Matrix {
    interface Call {
        void make() throws Exception;
    }

    /** Pushes one value; throws unless it was taken. */
    void push(byte[] value) throws Exception;

    /** What a library does not have is null. */
    default Call health() {
        return null;
    }

    default Call pipeline() {
        return null;
    }

    default Call transaction() {
        return null;
    }

    static byte[] value(String call, int number) {
        return (call + "-" + number + " \u00e9 \"q\" \\ \r\n\0.").getBytes(StandardCharsets.UTF_8);
    }

    static void check(Object reply, Object wanted) {
        if (!String.valueOf(reply).equals(String.valueOf(wanted))) {
            throw new IllegalStateException(reply + " instead of " + wanted);
        }
    }

    static void say(String line) {
        System.out.println(line.replaceAll("\\s+", " "));
        System.out.flush();
    }

    static void attempt(String name, Call call) {
        if (call == null) {
            say(name + " absent");
            return;
        }
        try {
            call.make();
            say(name + " ok");
        } catch (Throwable error) {
            say(name + " error: " + error);
        }
    }

    static void run(String version, Matrix client) throws Exception {
        say("version " + version);
        attempt("ordinary", () -> client.push(value("ordinary", 0)));
        attempt("health", client.health());
        attempt("pipeline", client.pipeline());
        attempt("transaction", client.transaction());
        say("restart");
        new Scanner(System.in).nextLine();
        attempt("reconnect", () -> {
            for (int tried = 0; ; tried++) {
                try {
                    client.push(value("reconnect", 0));
                    return;
                } catch (Exception error) {
                    if (tried == 59) {
                        throw error;
                    }
                    Thread.sleep(500);
                }
            }
        });
        // Some libraries keep threads that hold the process.
        Runtime.getRuntime().halt(0);
    }
}
