import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import org.springframework.data.redis.connection.RedisConnection;
import org.springframework.data.redis.connection.RedisStandaloneConfiguration;
import org.springframework.data.redis.connection.jedis.JedisConnectionFactory;
import org.springframework.data.redis.core.RedisCallback;
import org.springframework.data.redis.core.RedisTemplate;
import org.springframework.data.redis.serializer.RedisSerializer;

/** Through Spring Data Redis over Jedis: Calls MODE HOST PORT KEY. */
public final class Calls implements Matrix {
    private final RedisTemplate<String, byte[]> template = new RedisTemplate<>();
    private final String key;

    private Calls(String host, int port, String key) {
        JedisConnectionFactory factory = new JedisConnectionFactory(new RedisStandaloneConfiguration(host, port));
        factory.afterPropertiesSet();
        factory.start();
        template.setConnectionFactory(factory);
        template.setKeySerializer(RedisSerializer.string());
        template.setValueSerializer(RedisSerializer.byteArray());
        template.afterPropertiesSet();
        this.key = key;
    }

    public void push(byte[] value) {
        Matrix.check(template.opsForList().rightPush(key, value), 1);
    }

    /** As Spring Boot's health indicator: the version out of INFO. */
    public Call health() {
        return () -> {
            Matrix.check(template.execute((RedisCallback<String>) RedisConnection::ping), "PONG");
            Properties info = template.execute((RedisCallback<Properties>) one -> one.serverCommands().info("server"));
            Matrix.check(info.getProperty("redis_version") != null, true);
        };
    }

    private RedisCallback<Object> pushes(String call, int count) {
        byte[] name = key.getBytes(StandardCharsets.UTF_8);
        return connection -> {
            for (int number = 0; number < count; number++) {
                connection.listCommands().rPush(name, Matrix.value(call, number));
            }
            return null;
        };
    }

    public Call pipeline() {
        return () -> Matrix.check(template.executePipelined(pushes("pipeline", 10)), Collections.nCopies(10, 1L));
    }

    public Call transaction() {
        return () -> {
            List<Object> replies = template.execute((RedisCallback<List<Object>>) connection -> {
                connection.multi();
                pushes("transaction", 5).doInRedis(connection);
                return connection.exec();
            });
            Matrix.check(replies, Collections.nCopies(5, 1L));
        };
    }

    public static void main(String[] args) throws Exception {
        String version = RedisTemplate.class.getPackage().getImplementationVersion();
        Matrix.run(version, new Calls(args[1], Integer.parseInt(args[2]), args[3]));
    }
}
