// An order book: totals by item, sealed with a chain of hashes, and random numbers.
'use strict';

const crypto = require('node:crypto');

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest();

exports.handler = async (event) => {
  const totals = {};
  for (const { item, quantity, cents } of event.orders) {
    totals[item] = (totals[item] ?? 0) + quantity * cents;
  }
  const sorted = Object.fromEntries(Object.entries(totals).sort(([a], [b]) => (a < b ? -1 : 1)));
  let seal = sha256(JSON.stringify(sorted) + event.salt);
  for (let round = 0; round < event.rounds; round += 1) {
    seal = sha256(seal);
  }
  return {
    n: event.n,
    totals: sorted,
    seal: seal.toString('hex'),
    random: [crypto.randomBytes(16).toString('hex'), crypto.randomUUID(), String(Math.random())],
  };
};
