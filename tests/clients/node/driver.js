'use strict';
// Pushes records through ioredis.

const { Redis } = require('ioredis');

const SIZES = { single: 1, pipeline: 100, variadic: 10, multi: 5 };

function record(key, seq) {
  const text = `{"app":"${key}","seq":${seq},"msg":"line \u00e9 \\"q\\" \\\\ end"}`;
  return Buffer.from(seq % 7 === 3 ? `${text}\r\n\0` : text, 'utf8');
}

function check(reply, pushed) {
  if (!Number.isInteger(reply) || reply < pushed) {
    throw new Error(`reply ${reply} after ${pushed} values`);
  }
}

async function run(client, key, count, mode) {
  for (let first = 0; first < count; first += SIZES[mode]) {
    const values = [];
    for (let seq = first; seq < Math.min(first + SIZES[mode], count); seq++) {
      values.push(record(key, seq));
    }
    if (mode === 'single' || mode === 'variadic') {
      check(await client.lpush(key, ...values), values.length);
      continue;
    }
    const batch = mode === 'multi' ? client.multi() : client.pipeline();
    values.forEach((value) => batch.lpush(key, value));
    const replies = await batch.exec();
    if (replies === null || replies.length !== values.length) {
      throw new Error(`replies ${replies} to ${values.length} commands`);
    }
    for (const [error, reply] of replies) {
      if (error) throw error;
      check(reply, 1);
    }
  }
}

async function main(args) {
  if ((args.length !== 5 && args.length !== 7) || !(args[4] in SIZES)) {
    console.error('usage: driver.js HOST PORT KEY COUNT single|pipeline|variadic|multi [USER PASSWORD]');
    return 2;
  }
  const [host, port, key, count, mode, username, password] = args;
  const client = new Redis({ host, port: Number(port), ...(username ? { username, password } : {}) });
  // The library goes on trying by itself; a listener keeps its reason from being lost.
  client.on('error', (error) => console.error(`ioredis: ${error.message}`));
  try {
    await run(client, key, Number(count), mode);
  } catch (error) {
    console.error(`ioredis: ${error.message}`);
    return 1;
  } finally {
    client.disconnect();
  }
  console.log(`ok ${count}`);
  return 0;
}

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
