import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import org.springframework.data.redis.connection.RedisClusterConfiguration;
import org.springframework.data.redis.connection.RedisConnection;
import org.springframework.data.redis.connection.RedisSentinelConfiguration;
import org.springframework.data.redis.connection.RedisStandaloneConfiguration;
import org.springframework.data.redis.connection.jedis.JedisConnectionFactory;
import org.springframework.data.redis.core.RedisCallback;
import org.springframework.data.redis.core.RedisTemplate;
import org.springframework.data.redis.serializer.RedisSerializer;

/** Through Spring Data Redis over Jedis: Calls MODE HOST PORT KEY. */
public final class Calls implements Matrix {
    private final RedisTemplate<String, byte[]> template = new RedisTemplate<>();
    private final String key;

    private final boolean single;

    private Calls(String mode, String host, int port, String key) {
        String address = host + ":" + port;
        JedisConnectionFactory factory = switch (mode) {
            case "cluster" -> new JedisConnectionFactory(new RedisClusterConfiguration(List.of(address)));
            case "sentinel" -> new JedisConnectionFactory(new RedisSentinelConfiguration("mymaster", Set.of(address)));
            default -> new JedisConnectionFactory(new RedisStandaloneConfiguration(host, port));
        };
        this.single = !mode.equals("cluster");
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
            // Of a cluster, each name begins with its node's.
            Matrix.check(info.stringPropertyNames().stream().anyMatch(name -> name.endsWith("redis_version")), true);
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

    /** Over Jedis's cluster it has neither pipelines nor transactions. */
    public Call pipeline() {
        return !single ? null : () -> Matrix.check(template.executePipelined(pushes("pipeline", 10)), Collections.nCopies(10, 1L));
    }

    public Call transaction() {
        return !single ? null : () -> {
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
        Matrix.run(version, new Calls(args[0], args[1], Integer.parseInt(args[2]), args[3]));
    }
}
