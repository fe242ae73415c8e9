import java.util.Collections;
import org.redisson.Redisson;
import org.redisson.api.BatchOptions;
import org.redisson.api.RBatch;
import org.redisson.api.RedissonClient;
import org.redisson.api.redisnode.RedisNodes;
import org.redisson.client.codec.ByteArrayCodec;
import org.redisson.config.Config;

/** Through Redisson: Calls MODE HOST PORT KEY. */
public final class Calls implements Matrix {
    private final String mode;
    private final RedissonClient client;
    private final String key;

    private Calls(String mode, String host, String port, String key) {
        String address = "redis://" + host + ":" + port;
        Config config = new Config();
        switch (mode) {
            case "cluster" -> config.useClusterServers().addNodeAddress(address);
            case "sentinel" -> config.useSentinelServers().setMasterName("mymaster").addSentinelAddress(address)
                    .setCheckSentinelsList(false);
            default -> config.useSingleServer().setAddress(address);
        }
        this.mode = mode;
        this.key = key;
        client = Redisson.create(config);
    }

    public void push(byte[] value) {
        Matrix.check(client.getList(key, ByteArrayCodec.INSTANCE).add(value), true);
    }

    public Call health() {
        return () -> Matrix.check(switch (mode) {
            case "cluster" -> client.getRedisNodes(RedisNodes.CLUSTER).pingAll();
            case "sentinel" -> client.getRedisNodes(RedisNodes.SENTINEL_MASTER_SLAVE).pingAll();
            default -> client.getRedisNodes(RedisNodes.SINGLE).pingAll();
        }, true);
    }

    private Call batch(String call, int count, BatchOptions.ExecutionMode execution) {
        return () -> {
            RBatch batch = client.createBatch(BatchOptions.defaults().executionMode(execution));
            for (int number = 0; number < count; number++) {
                batch.getList(key, ByteArrayCodec.INSTANCE).addAsync(Matrix.value(call, number));
            }
            Matrix.check(batch.execute().getResponses(), Collections.nCopies(count, true));
        };
    }

    public Call pipeline() {
        return batch("pipeline", 10, BatchOptions.ExecutionMode.IN_MEMORY);
    }

    public Call transaction() {
        return batch("transaction", 5, BatchOptions.ExecutionMode.IN_MEMORY_ATOMIC);
    }

    public static void main(String[] args) throws Exception {
        String version = Redisson.class.getPackage().getImplementationVersion();
        Matrix.run(version == null ? "4.7.0" : version, new Calls(args[0], args[1], args[2], args[3]));
    }
}
