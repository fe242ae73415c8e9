import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisClient;

/** Pushes records through Jedis. */
public final class Driver {
    private static byte[] record(String key, int seq) {
        String text = "{\"app\":\"" + key + "\",\"seq\":" + seq + ",\"msg\":\"line \u00e9 \\\"q\\\" \\\\ end\"}";
        return (seq % 7 == 3 ? text + "\r\n\0" : text).getBytes(StandardCharsets.UTF_8);
    }

    private static void check(Object reply, int pushed) {
        if (!(reply instanceof Long) || (Long) reply < pushed) {
            throw new IllegalStateException("reply " + reply + " after " + pushed + " values");
        }
    }

    private static void checkAll(List<Object> replies, int commands) {
        if (replies == null || replies.size() != commands) {
            throw new IllegalStateException("replies " + replies + " to " + commands + " commands");
        }
        replies.forEach(reply -> check(reply, 1));
    }

    private static void run(RedisClient client, String key, int count, String mode) {
        byte[] name = key.getBytes(StandardCharsets.UTF_8);
        int size = switch (mode) {
            case "pipeline" -> 100;
            case "variadic" -> 10;
            case "multi" -> 5;
            default -> 1;
        };
        for (int first = 0; first < count; first += size) {
            List<byte[]> values = new ArrayList<>();
            for (int seq = first; seq < Math.min(first + size, count); seq++) {
                values.add(record(key, seq));
            }
            if (mode.equals("pipeline")) {
                try (Pipeline pipe = client.pipelined()) {
                    values.forEach(value -> pipe.lpush(name, value));
                    checkAll(pipe.syncAndReturnAll(), values.size());
                }
            } else if (mode.equals("multi")) {
                try (AbstractTransaction transaction = client.multi()) {
                    values.forEach(value -> transaction.lpush(name, value));
                    checkAll(transaction.exec(), values.size());
                }
            } else {
                check(client.lpush(name, values.toArray(new byte[0][])), values.size());
            }
        }
    }

    public static void main(String[] args) {
        boolean wellFormed = (args.length == 5 || args.length == 7)
                && Arrays.asList("single", "pipeline", "variadic", "multi").contains(args[4]);
        if (!wellFormed) {
            System.err.println("usage: Driver HOST PORT KEY COUNT single|pipeline|variadic|multi [USER PASSWORD]");
            System.exit(2);
        }
        int port = Integer.parseInt(args[1]);
        int count = Integer.parseInt(args[3]);
        try (RedisClient client = args.length == 7
                ? RedisClient.create(args[0], port, args[5], args[6])
                : RedisClient.create(args[0], port)) {
            run(client, args[2], count, args[4]);
        } catch (Exception error) {
            System.err.println("Jedis: " + error);
            System.exit(1);
        }
        System.out.println("ok " + count);
    }
}
