'use strict';
// The calls of the client matrix through ioredis, node-redis and winston: calls.js PACKAGE MODE HOST PORT KEY

const readline = require('node:readline');

const [name, mode, host, portText, key] = process.argv.slice(2);
const port = Number(portText);
const value = (call, number) => `${call}-${number} \u00e9 "q" \\ \r\n\0.`;
const say = (line) => process.stdout.write(`${line}\n`);
const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

function check(reply, wanted) {
  if (JSON.stringify(reply) !== JSON.stringify(wanted)) {
    throw new Error(`${JSON.stringify(reply)} instead of ${JSON.stringify(wanted)}`);
  }
}

async function attempt(call, act) {
  try {
    // A library that waits for ever must not hold up the matrix.
    const late = pause(40000).then(() => Promise.reject(new Error('no answer')));
    await Promise.race([act(), late]);
    say(`${call} ok`);
  } catch (error) {
    say(`${call} error: ${String(error.message || error).replace(/\s+/g, ' ')}`);
  }
}

async function patiently(act) {
  for (let tried = 0; ; tried++) {
    try {
      return await act();
    } catch (error) {
      if (tried === 59) throw error;
      await pause(500);
    }
  }
}

async function throughIoredis(library) {
  const Redis = library.Redis || library;
  const client = {
    plain: () => new Redis({ host, port }),
    cluster: () => new Redis.Cluster([{ host, port }]),
    sentinel: () => new Redis({ sentinels: [{ host, port }], name: 'mymaster' }),
  }[mode]();
  client.on('error', () => {});
  const batch = async (call, count, pipe) => {
    for (let number = 0; number < count; number++) pipe.rpush(key, value(call, number));
    check(await pipe.exec(), Array(count).fill([null, 1]));
  };
  return {
    push: async (call, number) => check(await client.rpush(key, value(call, number)), 1),
    health: async () => {
      check(await client.ping(), 'PONG');
      check((await client.info()).includes('redis_version'), true);
    },
    pipeline: () => batch('pipeline', 10, client.pipeline()),
    transaction: () => batch('transaction', 5, client.multi()),
    close: () => client.disconnect(),
  };
}

async function throughNodeRedis(library) {
  const url = `redis://${host}:${port}`;
  const client = {
    plain: () => library.createClient({ url }),
    cluster: () => library.createCluster({ rootNodes: [{ url }] }),
    sentinel: () => library.createSentinel({ name: 'mymaster', sentinelRootNodes: [{ host, port }] }),
  }[mode]();
  client.on('error', () => {});
  await client.connect();
  const batch = async (call, count, run) => {
    const multi = client.multi();
    for (let number = 0; number < count; number++) multi.rPush(key, value(call, number));
    check(await run(multi), Array(count).fill(1));
  };
  // A cluster's client has no PING and INFO of its own, and sends any command.
  const send = {
    plain: (args) => client.sendCommand(args),
    cluster: (args) => client.sendCommand(undefined, true, args),
    sentinel: (args) => client.sendCommand(true, args),
  }[mode];
  return {
    push: async (call, number) => check(await client.rPush(key, value(call, number)), 1),
    health: async () => {
      check(await send(['PING']), 'PONG');
      check(String(await send(['INFO'])).includes('redis_version'), true);
    },
    pipeline: () => batch('pipeline', 10, (multi) => multi.execAsPipeline()),
    transaction: () => batch('transaction', 5, (multi) => multi.exec()),
    close: () => (client.destroy ? client.destroy() : client.disconnect()),
  };
}

async function throughWinston() {
  const winston = require('winston');
  const transport = new (require('winston-redis'))({ host, port, container: key, channel: 'unused', length: 1000 });
  transport.on('error', () => {});
  const log = winston.createLogger({ transports: [transport] });
  const push = (call, number) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('not logged')), 5000);
    transport.once('logged', () => { clearTimeout(timer); resolve(); });
    log.info(`${call}-${number}`);
  });
  return { push, health: null, pipeline: null, transaction: null, close: () => {} };
}

async function main() {
  say(`version ${require(`${name}/package.json`).version}`);
  const make = name.startsWith('ioredis') ? throughIoredis : name.startsWith('redis') ? throughNodeRedis : throughWinston;
  const client = await make(require(name));
  await attempt('ordinary', () => client.push('ordinary', 0));
  for (const call of ['health', 'pipeline', 'transaction']) {
    if (client[call]) await attempt(call, client[call]);
    else say(`${call} absent`);
  }
  say('restart');
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => input.once('line', resolve));
  await attempt('reconnect', () => patiently(() => client.push('reconnect', 0)));
  process.exit(0);
}

main().catch((error) => {
  say(`start error: ${String(error.message || error).replace(/\s+/g, ' ')}`);
  process.exit(1);
});
