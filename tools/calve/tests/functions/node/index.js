'use strict';

const crypto = require('node:crypto');

exports.handler = async (event) => {
  if (event.do === 'fail') throw new TypeError('no width');
  console.log('hello from node');
  return { echo: event, random: Math.random(), uuid: crypto.randomUUID() };
};
