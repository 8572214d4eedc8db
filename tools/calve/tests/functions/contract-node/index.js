'use strict';

const crypto = require('node:crypto');

// Generators that were there before the freeze, and have been used.
Math.random();
crypto.randomBytes(16);
crypto.randomUUID();

exports.handler = async () => ({
  random: Math.random(),
  more: [Math.random(), Math.random()],
  bytes: crypto.randomBytes(8).toString('hex'),
  int: crypto.randomInt(2 ** 47),
  uuid: crypto.randomUUID(),
  values: Array.from(crypto.getRandomValues(new Uint32Array(2))),
  now: Date.now() / 1000,
});
