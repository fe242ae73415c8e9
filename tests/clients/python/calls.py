"""The calls of the client matrix through redis-py, synchronous and asyncio, alone, in a cluster and behind a sentinel."""

import asyncio
import logging
import sys
import time

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel


def value(call, number):
    return ('%s-%d \u00e9 "q" \\ \r\n\0.' % (call, number)).encode()


def report(call, error=None):
    print("%s %s" % (call, "ok" if error is None else "error: %s: %s" % (type(error).__name__, error)), flush=True)


def check(reply, wanted):
    if reply != wanted:
        raise AssertionError("%r instead of %r" % (reply, wanted))


def attempt(call, act):
    try:
        act()
    except Exception as error:  # whatever it is, the test reads it
        report(call, error)
    else:
        report(call)


def patiently(act):
    for tried in range(60):
        try:
            return act()
        except Exception:
            if tried == 59:
                raise
            time.sleep(0.5)


def connect(mode, host, port):
    if mode == "cluster":
        return redis.RedisCluster(host=host, port=port)
    if mode == "sentinel":
        return redis.sentinel.Sentinel([(host, port)]).master_for("mymaster")
    return redis.Redis(host=host, port=port)


def has_transactions(mode):
    # Its cluster's client has them since version 6.
    return mode != "cluster" or int(redis.__version__.split(".")[0]) >= 6


def batch(client, key, call, count, transaction):
    pipe = client.pipeline(transaction=transaction) if transaction else client.pipeline()
    for number in range(count):
        pipe.rpush(key, value(call, number))
    check(pipe.execute(), [1] * count)


def sync(mode, host, port, key):
    client = connect(mode, host, port)
    attempt("ordinary", lambda: check(client.rpush(key, value("ordinary", 0)), 1))
    attempt("health", lambda: check(bool(client.ping()) and "redis_version" in str(client.info()), True))
    attempt("pipeline", lambda: batch(client, key, "pipeline", 10, False))
    if not has_transactions(mode):
        print("transaction absent", flush=True)
    else:
        attempt("transaction", lambda: batch(client, key, "transaction", 5, True))
    print("restart", flush=True)
    sys.stdin.readline()
    attempt("reconnect", lambda: patiently(lambda: check(client.rpush(key, value("reconnect", 0)), 1)))


async def a_connect(mode, host, port):
    if mode == "cluster":
        return redis.asyncio.RedisCluster(host=host, port=port)
    if mode == "sentinel":
        return redis.asyncio.sentinel.Sentinel([(host, port)]).master_for("mymaster")
    return redis.asyncio.Redis(host=host, port=port)


async def a_attempt(call, act):
    try:
        await act()
    except Exception as error:
        report(call, error)
    else:
        report(call)


async def a_sync(mode, host, port, key):
    client = await a_connect(mode, host, port)

    async def push(call, number):
        check(await client.rpush(key, value(call, number)), 1)

    async def health():
        check(bool(await client.ping()) and "redis_version" in str(await client.info()), True)

    async def batch(call, count, transaction):
        pipe = client.pipeline(transaction=transaction) if transaction else client.pipeline()
        for number in range(count):
            pipe.rpush(key, value(call, number))
        check(await pipe.execute(), [1] * count)

    async def patiently():
        for tried in range(60):
            try:
                return await push("reconnect", 0)
            except Exception:
                if tried == 59:
                    raise
                await asyncio.sleep(0.5)

    await a_attempt("ordinary", lambda: push("ordinary", 0))
    await a_attempt("health", health)
    await a_attempt("pipeline", lambda: batch("pipeline", 10, False))
    if not has_transactions(mode):
        print("transaction absent", flush=True)
    else:
        await a_attempt("transaction", lambda: batch("transaction", 5, True))
    print("restart", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await a_attempt("reconnect", patiently)


def logger(name, handler):
    log = logging.getLogger(name)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return log


def handler(which, host, port, key):
    """rlog's logging handlers: one publishes, one pushes onto a list, which it caps in a transaction where told to."""
    from rlog import RedisHandler, RedisListHandler

    client = redis.Redis(host=host, port=port)
    text = logging.Formatter("%(message)s")
    logging.raiseExceptions = True
    if which == "publisher":
        log = logger("matrix", RedisHandler(channel=key, redis_client=client, formatter=text))
    else:
        log = logger("matrix", RedisListHandler(key=key, redis_client=client, formatter=text))
    attempt("ordinary", lambda: log.info("ordinary-0"))
    for absent in ("health", "pipeline"):
        print("%s absent" % absent, flush=True)
    if which == "publisher":
        print("transaction absent", flush=True)
    else:
        capped = RedisListHandler(key=key, max_messages=100, redis_client=client, formatter=text)
        log_capped = logger("capped", capped)
        attempt("transaction", lambda: [log_capped.info("transaction-%d" % number) for number in range(5)])
    print("restart", flush=True)
    sys.stdin.readline()
    attempt("reconnect", lambda: patiently(lambda: log.info("reconnect-0")))


def main(args):
    which, mode, host, port, key = args[0], args[1], args[2], int(args[3]), args[4]
    print("version %s" % redis.__version__, flush=True)
    if which in ("handler", "publisher"):
        handler(which, host, port, key)
    elif which == "asyncio":
        asyncio.run(a_sync(mode, host, port, key))
    else:
        sync(mode, host, port, key)


main(sys.argv[1:])
