import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.RedisSentinelClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.UnifiedJedis;

/** Through Jedis: Calls MODE HOST PORT KEY. */
public final class Calls implements Matrix {
    private final String mode;
    private final UnifiedJedis client;
    private final byte[] key;

    private Calls(String mode, String host, int port, String key) {
        HostAndPort address = new HostAndPort(host, port);
        this.mode = mode;
        this.key = key.getBytes(StandardCharsets.UTF_8);
        client = switch (mode) {
            case "cluster" -> RedisClusterClient.builder().nodes(Set.of(address)).build();
            case "sentinel" -> RedisSentinelClient.builder().masterName("mymaster").sentinels(Set.of(address))
                    .clientConfig(DefaultJedisClientConfig.builder().build()).build();
            default -> RedisClient.create(host, port);
        };
    }

    public void push(byte[] value) {
        Matrix.check(client.rpush(key, value), 1);
    }

    public Call health() {
        return () -> {
            Matrix.check(client.ping(), "PONG");
            Matrix.check(client.info().contains("redis_version"), true);
        };
    }

    public Call pipeline() {
        return () -> {
            try (AbstractPipeline pipe = client.pipelined()) {
                List<Response<Long>> replies = new ArrayList<>();
                for (int number = 0; number < 10; number++) {
                    replies.add(pipe.rpush(key, Matrix.value("pipeline", number)));
                }
                pipe.sync();
                replies.forEach(reply -> Matrix.check(reply.get(), 1));
            }
        };
    }

    public Call transaction() {
        return mode.equals("cluster") ? null : () -> {
            try (AbstractTransaction transaction = client.multi()) {
                for (int number = 0; number < 5; number++) {
                    transaction.rpush(key, Matrix.value("transaction", number));
                }
                Matrix.check(transaction.exec(), Collections.nCopies(5, 1L));
            }
        };
    }

    public static void main(String[] args) throws Exception {
        Matrix.run("8.0.2", new Calls(args[0], args[1], Integer.parseInt(args[2]), args[3]));
    }
}
