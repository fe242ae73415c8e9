import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import org.apache.logging.log4j.Logger;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.config.ConfigurationSource;
import org.apache.logging.log4j.core.config.Configurator;

/** Through log4j2-redis-appender: Calls MODE HOST PORT KEY. It logs and is never told. */
public final class Calls implements Matrix {
    private final Logger log;

    private Calls(String host, String port, String key) throws Exception {
        String configuration = "<Configuration status=\"error\" packages=\"com.vlkan.log4j2.redis.appender\"><Appenders>"
                + "<RedisAppender name=\"REDIS\" key=\"" + key + "\" host=\"" + host + "\" port=\"" + port + "\">"
                + "<PatternLayout pattern=\"%msg\"/></RedisAppender></Appenders>"
                + "<Loggers><Root level=\"info\"><AppenderRef ref=\"REDIS\"/></Root></Loggers></Configuration>";
        byte[] bytes = configuration.getBytes(StandardCharsets.UTF_8);
        LoggerContext context =
                Configurator.initialize(null, new ConfigurationSource(new ByteArrayInputStream(bytes)));
        log = context.getLogger("matrix");
    }

    public void push(byte[] value) throws Exception {
        String text = new String(value, StandardCharsets.UTF_8);
        log.info(text.substring(0, text.indexOf(' ')));
        if (text.startsWith("reconnect")) {
            // Its pool hands out the connection that broke once more, and what is logged then is lost, here as with Redis.
            Thread.sleep(2000);
            log.info(text.substring(0, text.indexOf(' ')));
            Thread.sleep(2000);
        }
    }

    public static void main(String[] args) throws Exception {
        Matrix.run("0.16.0", new Calls(args[1], args[2], args[3]));
    }
}
