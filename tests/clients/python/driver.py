"""Pushes records through redis-py. The same file runs under the newest release and under Debian's."""

import sys

import redis


def record(key, seq):
    text = '{"app":"%s","seq":%d,"msg":"line \u00e9 \\"q\\" \\\\ end"}' % (key, seq)
    return text.encode() + (b"\r\n\x00" if seq % 7 == 3 else b"")


def chunks(count, size):
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


def check(reply, pushed):
    # bool is an int in Python, and a server that answers True has not answered a length.
    if type(reply) is not int or reply < pushed:
        raise AssertionError("reply %r after %d values" % (reply, pushed))


def run(client, key, count, mode):
    if mode == "single":
        for seq in range(count):
            check(client.lpush(key, record(key, seq)), 1)
    elif mode == "variadic":
        for part in chunks(count, 10):
            check(client.lpush(key, *[record(key, seq) for seq in part]), len(part))
    else:
        for part in chunks(count, 100 if mode == "pipeline" else 5):
            pipe = client.pipeline(transaction=mode == "multi")
            for seq in part:
                pipe.lpush(key, record(key, seq))
            replies = pipe.execute()
            if len(replies) != len(part):
                raise AssertionError("%d replies to %d commands" % (len(replies), len(part)))
            for reply in replies:
                check(reply, 1)


def main(args):
    if len(args) not in (5, 7) or args[4] not in ("single", "pipeline", "variadic", "multi"):
        print("usage: driver.py HOST PORT KEY COUNT MODE [USER PASSWORD]", file=sys.stderr)
        return 2
    host, port, key, count, mode = args[0], int(args[1]), args[2], int(args[3]), args[4]
    login = {"username": args[5], "password": args[6]} if len(args) == 7 else {}
    try:
        run(redis.Redis(host=host, port=port, **login), key, count, mode)
    except Exception as error:  # whatever it is, the test reads it on stderr
        print("redis-py %s: %s: %s" % (redis.__version__, type(error).__name__, error), file=sys.stderr)
        return 1
    print("ok %d" % count)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
