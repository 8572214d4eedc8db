// Before the snapshot and after the restore: hooks, garbage, and randomness that clones must not share.
//
// The kernel's generator is fresh in a clone before this code runs. OpenSSL's, which Node offers no way to reseed, is bound
// to a backdated clock by `settle` and reseeds itself (see the agent's `agent/freeze.rs`). Two more live in this process:
//
// - `Math.random`: V8 keeps its state and 64 values to come in each context, out of reach. So the main context gets another
//   generator in its place, before user code can take hold of the old one: xoshiro128**, seeded from the kernel.
// - Node hands out UUIDs and random integers from pools filled in advance. After a thaw the old pools are used up first.
//
// Contexts of `node:vm` and worker threads have generators of their own; a function that freezes those reseeds them in an
// afterRestore hook.
'use strict';

const crypto = require('node:crypto');
const { syncBuiltinESMExports } = require('node:module');
const v8 = require('node:v8');
const vm = require('node:vm');

const before = [];
const after = [];

/** The hooks as functions see them. */
globalThis.calve = Object.freeze({
  /** Runs `hook` before the snapshot; the last one registered runs first. */
  beforeSnapshot: (hook) => void before.push(hook),
  /** Runs `hook` in each clone before its first event, in the order of registration. */
  afterRestore: (hook) => void after.push(hook),
});

const state = new Uint32Array(4);

function seedMathRandom() {
  crypto.randomFillSync(state);
  // The one state that stays as it is.
  if (!(state[0] | state[1] | state[2] | state[3])) state[0] = 1;
}

function next32() {
  const s1 = state[1];
  const x = Math.imul(s1, 5);
  const result = Math.imul((x << 7) | (x >>> 25), 9);
  const t = s1 << 9;
  state[2] ^= state[0];
  state[3] ^= s1;
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= t;
  const s3 = state[3];
  state[3] = (s3 << 11) | (s3 >>> 21);
  return result >>> 0;
}

const replacements = {
  random() {
    // 53 bits, as many as a double holds below 1.
    return ((next32() >>> 5) * 67108864 + (next32() >>> 6)) / 9007199254740992;
  },
};
seedMathRandom();
Object.defineProperty(Math, 'random', { value: replacements.random, writable: true, enumerable: false, configurable: true });

// Whether the pools were ever filled: a clone of a function that uses neither pays for neither.
let usedUuids = false;
let usedIntegers = false;
const { randomUUID, randomInt } = crypto;
crypto.randomUUID = function (options) {
  usedUuids = true;
  return randomUUID(options);
};
crypto.randomInt = function (...args) {
  usedIntegers = true;
  return randomInt(...args);
};
const webCrypto = Object.getPrototypeOf(globalThis.crypto);
const webRandomUUID = webCrypto.randomUUID;
Object.defineProperty(webCrypto, 'randomUUID', {
  ...Object.getOwnPropertyDescriptor(webCrypto, 'randomUUID'),
  value: function () {
    usedUuids = true;
    return Reflect.apply(webRandomUUID, this, []);
  },
});
syncBuiltinESMExports();

// Sizes of the pools in Node's lib/internal/crypto/random.js: 128 UUIDs; 6 KiB of integers of 6 bytes.
const UUID_POOL = 128;
const INTEGER_POOL = 1024;

/** Runs the hooks, last one first, and collects garbage. Returns the number of afterRestore hooks. */
async function beforeSnapshot() {
  // Kept: a machine that is forked goes on, and may be forked or frozen again.
  for (const hook of [...before].reverse()) await hook();
  collectGarbage();
  return after.length;
}

/** V8 hands its collector only to contexts that are made while the flag is set; the function's own never sees it. */
function collectGarbage() {
  v8.setFlagsFromString('--expose-gc');
  const gc = vm.runInNewContext('gc');
  v8.setFlagsFromString('--no-expose-gc');
  // The second run takes what finalizers of the first have let go.
  gc();
  gc();
}

/** Binds OpenSSL's generators to the backdated clock. */
function settle() {
  crypto.randomBytes(1);
}

/** Gives the generators of this process a fresh start. */
function reseed() {
  seedMathRandom();
  if (usedUuids) for (let i = 0; i < UUID_POOL; i++) randomUUID();
  if (usedIntegers) for (let i = 0; i < INTEGER_POOL; i++) randomInt(2);
}

function hasAfterRestore() {
  return after.length > 0;
}

/** Runs the hooks in the order of their registration. */
async function afterRestore() {
  for (const hook of after) await hook();
}

module.exports = { beforeSnapshot, settle, reseed, hasAfterRestore, afterRestore };
