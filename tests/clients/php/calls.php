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

function phpredis(string $host, int $port, string $key): array
{
    // Pooled connections are checked with ECHO, which is what a web server's worker does.
    ini_set('redis.pconnect.echo_check_liveness', '1');
    say('version ' . phpversion('redis'));
    $redis = new Redis();
    $connect = fn () => $redis->pconnect($host, $port, 2.0);
    $connect();
    $batch = function (int $kind, string $call, int $count) use ($redis, $key) {
        $pipe = $redis->multi($kind);
        for ($number = 0; $number < $count; $number++) {
            $pipe->rPush($key, value($call, $number));
        }
        check($pipe->exec(), array_fill(0, $count, 1));
    };
    return [
        'push' => function (string $call, bool $again = false) use ($redis, $connect, $key) {
            $again && $connect();
            check($redis->rPush($key, value($call, 0)), 1);
        },
        'health' => function () use ($redis) {
            check((bool) $redis->ping(), true);
            check(isset($redis->info()['redis_version']), true);
        },
        'pipeline' => fn () => $batch(Redis::PIPELINE, 'pipeline', 10),
        'transaction' => fn () => $batch(Redis::MULTI, 'transaction', 5),
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
    $batch = function (string $call, int $count, array $options) use (&$client, $key) {
        $replies = $client->pipeline($options, function ($pipe) use ($call, $count, $key) {
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
        'health' => $mode !== 'plain' ? null : function () use (&$client) {
            check((string) $client->ping(), 'PONG');
            check(isset($client->info()['Server']['redis_version']), true);
        },
        'pipeline' => fn () => $batch('pipeline', 10, []),
        'transaction' => $mode !== 'plain' ? null : fn () => $batch('transaction', 5, ['atomic' => true]),
    ];
}

function monolog(string $host, int $port, string $key): array
{
    require 'Monolog/autoload.php';
    say('version ' . (trim((string) shell_exec("dpkg-query -W -f '\${Version}' php-monolog")) ?: '?'));
    $make = function (int $capSize) use ($host, $port, $key) {
        $redis = new Redis();
        $redis->connect($host, $port, 2.0);
        $handler = new Monolog\Handler\RedisHandler($redis, $key, Monolog\Logger::DEBUG, true, $capSize);
        $handler->setFormatter(new Monolog\Formatter\LineFormatter('%message%'));
        return new Monolog\Logger('matrix', [$handler]);
    };
    return [
        'push' => fn (string $call) => $make(0)->info("$call-0"),
        'health' => null,
        'pipeline' => null,
        // A capped list: MULTI, RPUSH, LTRIM, EXEC.
        'transaction' => function () use ($make) {
            $log = $make(100);
            for ($number = 0; $number < 5; $number++) {
                $log->info("transaction-$number");
            }
        },
    ];
}

$calls = match ($library) {
    'phpredis' => phpredis($host, $port, $key),
    'predis' => predis($mode, $host, $port, $key),
    'monolog' => monolog($host, $port, $key),
};
attempt('ordinary', fn () => $calls['push']('ordinary'));
attempt('health', $calls['health']);
attempt('pipeline', $calls['pipeline']);
attempt('transaction', $calls['transaction']);
say('restart');
fgets(STDIN);
attempt('reconnect', fn () => patiently(fn () => $calls['push']('reconnect', true)));
