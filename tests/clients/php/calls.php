<?php
// The calls of the client matrix through phpredis, predis and Monolog: calls.php LIBRARY MODE HOST PORT KEY

[, $library, $mode, $host, $port, $key] = $argv;
$port = (int) $port;

function value(string $call, int $number): string
{
    return "$call-$number \u{e9} \"q\" \\ \r\n\0.";
}

function say(string $line): void
{
    echo preg_replace('/\s+/', ' ', $line), "\n";
}

function check($reply, $wanted): void
{
    if ($reply !== $wanted) {
        throw new RuntimeException(json_encode($reply) . ' instead of ' . json_encode($wanted));
    }
}

function attempt(string $call, ?callable $act): void
{
    if ($act === null) {
        say("$call absent");
        return;
    }
    try {
        $act();
        say("$call ok");
    } catch (Throwable $error) {
        say("$call error: " . $error->getMessage());
    }
}

function patiently(callable $act): void
{
    for ($tried = 0; ; $tried++) {
        try {
            $act();
            return;
        } catch (Throwable $error) {
            if ($tried === 59) {
                throw $error;
            }
            usleep(500000);
        }
    }
}

function phpredis(string $mode, string $host, int $port, string $key): array
{
    // Pooled connections are checked with ECHO, which is what a web server's worker does.
    ini_set('redis.pconnect.echo_check_liveness', '1');
    say('version ' . phpversion('redis'));
    $plain = new Redis();
    $connect = function () use ($mode, $host, $port, $plain) {
        if ($mode === 'cluster') {
            return new RedisCluster(null, ["$host:$port"], 2.0, 2.0);
        }
        if ($mode === 'sentinel') {
            $sentinel = new RedisSentinel($host, $port, 2.0);
            check($sentinel->ping(), true);
            [$host, $port] = $sentinel->getMasterAddrByName('mymaster');
        }
        $plain->pconnect($host, (int) $port, 2.0);
        return $plain;
    };
    $redis = $connect();
    $batch = function (bool $piped, string $call, int $count) use (&$redis, $mode, $key) {
        $pipe = $mode === 'cluster' ? $redis->multi() : $redis->multi($piped ? Redis::PIPELINE : Redis::MULTI);
        for ($number = 0; $number < $count; $number++) {
            $pipe->rPush($key, value($call, $number));
        }
        check($pipe->exec(), array_fill(0, $count, 1));
    };
    $node = $mode === 'cluster' ? [$key] : [];
    return [
        'push' => function (string $call, bool $again = false) use (&$redis, $connect, $key) {
            if ($again) {
                $redis = $connect();
            }
            check($redis->rPush($key, value($call, 0)), 1);
        },
        'health' => function () use (&$redis, $node) {
            check((bool) $redis->ping(...$node), true);
            check(isset($redis->info(...$node)['redis_version']), true);
        },
        // Its cluster's client has none.
        'pipeline' => $mode === 'cluster' ? null : fn () => $batch(true, 'pipeline', 10),
        'transaction' => fn () => $batch(false, 'transaction', 5),
    ];
}

function predis(string $mode, string $host, int $port, string $key): array
{
    require 'Predis/autoload.php';
    say('version ' . Predis\Client::VERSION);
    $make = fn () => match ($mode) {
        'cluster' => new Predis\Client(["tcp://$host:$port"], ['cluster' => 'redis']),
        'sentinel' => new Predis\Client(["tcp://$host:$port"], ['replication' => 'sentinel', 'service' => 'mymaster']),
        default => new Predis\Client("tcp://$host:$port"),
    };
    $client = $make();
    // What is no command on a key is asked of the master itself.
    $master = function () use (&$client, $mode) {
        return $mode === 'sentinel' ? $client->getClientFor('master') : $client;
    };
    $batch = function (string $call, int $count, array $options) use (&$client, $master, $key) {
        $of = $options ? $master() : $client;
        $replies = $of->pipeline($options, function ($pipe) use ($call, $count, $key) {
            for ($number = 0; $number < $count; $number++) {
                $pipe->rpush($key, [value($call, $number)]);
            }
        });
        check($replies, array_fill(0, $count, 1));
    };
    return [
        'push' => function (string $call, bool $again = false) use (&$client, $make, $key) {
            if ($again) {
                $client = $make();
            }
            check($client->rpush($key, [value($call, 0)]), 1);
        },
        // Over a cluster it has neither.
        'health' => $mode === 'cluster' ? null : function () use ($master) {
            check((string) $master()->ping(), 'PONG');
            check(isset($master()->info()['Server']['redis_version']), true);
        },
        'pipeline' => fn () => $batch('pipeline', 10, []),
        'transaction' => $mode === 'cluster' ? null : fn () => $batch('transaction', 5, ['atomic' => true]),
    ];
}

function monolog(string $which, string $host, int $port, string $key): array
{
    require 'Monolog/autoload.php';
    say('version ' . (trim((string) shell_exec("dpkg-query -W -f '\${Version}' php-monolog")) ?: '?'));
    $make = function (int $capSize) use ($which, $host, $port, $key) {
        $redis = new Redis();
        $redis->connect($host, $port, 2.0);
        $handler = $which === 'publisher'
            ? new Monolog\Handler\RedisPubSubHandler($redis, $key)
            : new Monolog\Handler\RedisHandler($redis, $key, Monolog\Logger::DEBUG, true, $capSize);
        $handler->setFormatter(new Monolog\Formatter\LineFormatter('%message%'));
        return new Monolog\Logger('matrix', [$handler]);
    };
    return [
        'push' => fn (string $call) => $make(0)->info("$call-0"),
        'health' => null,
        'pipeline' => null,
        // A capped list: MULTI, RPUSH, LTRIM, EXEC.
        'transaction' => $which === 'publisher' ? null : function () use ($make) {
            $log = $make(100);
            for ($number = 0; $number < 5; $number++) {
                $log->info("transaction-$number");
            }
        },
    ];
}

$calls = match ($library) {
    'phpredis' => phpredis($mode, $host, $port, $key),
    'predis' => predis($mode, $host, $port, $key),
    'monolog', 'publisher' => monolog($library, $host, $port, $key),
};
attempt('ordinary', fn () => $calls['push']('ordinary'));
attempt('health', $calls['health']);
attempt('pipeline', $calls['pipeline']);
attempt('transaction', $calls['transaction']);
say('restart');
fgets(STDIN);
attempt('reconnect', fn () => patiently(fn () => $calls['push']('reconnect', true)));
