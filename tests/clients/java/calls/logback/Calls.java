import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.LoggerContext;
import com.cwbase.logback.RedisAppender;
import java.nio.charset.StandardCharsets;
import org.slf4j.LoggerFactory;

/** Through logback-redis-appender: Calls MODE HOST PORT KEY. It logs and is never told. */
public final class Calls implements Matrix {
    private final Logger log;

    private Calls(String host, int port, String key) {
        LoggerContext context = (LoggerContext) LoggerFactory.getILoggerFactory();
        context.reset();
        RedisAppender appender = new RedisAppender();
        appender.setContext(context);
        appender.setHost(host);
        appender.setPort(port);
        appender.setKey(key);
        appender.start();
        log = context.getLogger("matrix");
        log.addAppender(appender);
    }

    public void push(byte[] value) throws Exception {
        String text = new String(value, StandardCharsets.UTF_8);
        log.info(text.substring(0, text.indexOf(' ')));
        if (text.startsWith("reconnect")) {
            // Its pool hands out the connection that broke once more, and what is logged then is lost, here as with Redis.
            Thread.sleep(1000);
            log.info(text.substring(0, text.indexOf(' ')));
        }
    }

    public static void main(String[] args) throws Exception {
        Matrix.run("1.1.6", new Calls(args[1], Integer.parseInt(args[2]), args[3]));
    }
}
