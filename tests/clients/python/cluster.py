"""A client of a cluster that goes on for long: cluster.py HOST PORT KEY

For each line on standard input it pushes that line under 32 keys, KEY-0 to KEY-31, each tried again for up to 30 s, and then
prints the nodes that it knows: "nodes HOST HOST ...".
"""

import sys
import time

import redis

host, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = redis.RedisCluster(host=host, port=port)
for line in sys.stdin:
    for number in range(32):
        for tried in range(60):
            try:
                assert client.rpush("%s-%d" % (key, number), line.strip()) == 1
                break
            except redis.RedisError:
                if tried == 59:
                    raise
                time.sleep(0.5)
    print("nodes " + " ".join(sorted({node.host for node in client.get_nodes()})), flush=True)
