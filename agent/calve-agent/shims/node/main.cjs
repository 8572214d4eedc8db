// Calve's Node runtime: loads one handler and calls it for each event the agent sends.
//
// The frames are described in the agent's source, `runtime/shim.rs`.
'use strict';

const { Module } = require('node:module');

const freeze = require('./freeze.cjs');
const { Link } = require('./link.cjs');
const { InitError, describe, load } = require('./loader.cjs');
const streams = require('./stream.cjs');

// AWS Lambda's bound for a response, in bytes.
const MAX_RESULT = 6 << 20;

// A full pipe makes Node queue what is printed, without bound, and forget it when the process exits. Blocking writes keep
// the order of output and answer, and hold a function back that prints faster than anyone reads.
for (const stream of [process.stdout, process.stderr]) stream._handle?.setBlocking?.(true);

const link = new Link(3, onFrame);
let handler;
/** The invocation in flight: `end()` says whether it was not over yet, `idle()` that nothing is left that could end it. */
let current;

function fail(error) {
  link.sendJson('X', error);
}

function exceed(errorMessage) {
  fail({ kind: 'result-too-large', errorType: 'Function.ResponseSizeTooLarge', errorMessage });
}

function succeed(value) {
  let result;
  try {
    result = Buffer.from(JSON.stringify(value === undefined ? null : value) ?? 'null');
  } catch (error) {
    const errorMessage = `Unable to stringify response body: ${error.message}`;
    fail({ errorType: 'Runtime.MarshalError', errorMessage, stackTrace: [] });
    return;
  }
  if (result.length > MAX_RESULT) {
    exceed(`Response payload size exceeded maximum allowed payload size (${MAX_RESULT} bytes).`);
    return;
  }
  link.send('V', result);
}

/** Calls the handler for one event. */
function invoke(payload) {
  const at = payload.indexOf(10);
  const header = JSON.parse(payload.toString('utf8', 0, at));
  if (header.traceId) process.env._X_AMZN_TRACE_ID = header.traceId;
  else delete process.env._X_AMZN_TRACE_ID;
  let event;
  try {
    event = JSON.parse(payload.toString('utf8', at + 1));
  } catch (error) {
    const errorMessage = `Unable to unmarshal input: ${error.message}`;
    fail({ errorType: 'Runtime.UnmarshalError', errorMessage, stackTrace: [] });
    return;
  }

  const call = { done: false };
  call.end = () => {
    if (call.done) return false;
    call.done = true;
    current = undefined;
    link.ref();
    return true;
  };
  call.fail = (error) => {
    if (call.end()) fail(describe(error ?? new Error(String(error))));
  };
  current = call;
  // While the handler works the socket does not keep the loop alive: an empty loop means that nothing will come any more.
  link.unref();
  try {
    if (streams.isStreaming(handler)) stream(call, event, header);
    else answer(call, event, makeContext(header));
  } catch (error) {
    call.fail(error);
  }
}

/** Calls a handler that streams its result. */
function stream(call, event, header) {
  call.whole = () => {
    if (call.end()) link.send('W');
  };
  call.exceed = (text) => {
    if (call.end()) exceed(text);
  };
  streams.run(handler, event, makeContext(header), { link, call, passedOn: header.stream });
}

/** Calls a handler that has one value for its result. */
function answer(call, event, context) {
  let held;
  const finish = (error, value) => {
    if (error !== undefined && error !== null) call.fail(error);
    else if (call.end()) succeed(value);
  };
  // AWS Lambda answers a callback once the event loop is empty, unless the handler says otherwise.
  const callback = (error, value) => {
    if (error || !context.callbackWaitsForEmptyEventLoop) finish(error, value);
    else held ??= { value };
  };
  context.done = callback;
  context.fail = (error) => callback(error ?? new Error('handled'));
  context.succeed = (value) => callback(null, value);
  // Held, the callback's value is the answer; or there is none, which AWS Lambda answers with null.
  call.idle = () => finish(undefined, held?.value);
  const returned = handler(event, context, callback);
  if (typeof returned?.then === 'function') returned.then((value) => finish(undefined, value), call.fail);
}

function makeContext(header) {
  const env = process.env;
  return {
    awsRequestId: header.requestId,
    invokedFunctionArn: header.functionArn,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, header.deadlineMs - Date.now()),
  };
}

async function onFrame(kind, payload) {
  switch (kind) {
    case 'I':
      invoke(payload);
      break;
    case 'L':
      becomeFunction(JSON.parse(payload.toString()));
      start();
      break;
    case 'F':
      try {
        link.send('F', Buffer.from(String(await freeze.beforeSnapshot())));
      } catch (error) {
        link.sendJson('H', describe(error));
      }
      break;
    case 'S':
      freeze.settle();
      link.send('S');
      break;
    case 'T':
      freeze.reseed();
      // Without hooks the agent does not wait for an answer.
      if (freeze.hasAfterRestore()) {
        try {
          await freeze.afterRestore();
          link.send('T');
        } catch (error) {
          link.sendJson('H', describe(error));
        }
      }
      break;
  }
}

process.on('beforeExit', () => {
  current?.idle();
});

/** An error that nobody caught ends the process, as in AWS Lambda; the invocation in flight hears of it first. */
function die(error, name, status) {
  const described = describe(error);
  if (name) Object.assign(described, { errorType: name, errorMessage: `${described.errorType}: ${described.errorMessage}` });
  const kind = handler ? (current ? 'D' : undefined) : 'E';
  if (current) current.done = true;
  process.stderr.write(`${(error && error.stack) || error}\n`);
  link.sendLast(kind, described, () => process.exit(status));
}
process.on('uncaughtException', (error) => die(error, undefined, 129));
process.on('unhandledRejection', (error) => die(error, 'Runtime.UnhandledPromiseRejection', 128));

/** Takes a function's environment, and the folder that its code has been mounted over. */
function becomeFunction(env) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  process.chdir(env.LAMBDA_TASK_ROOT);
  // Folders of layers. Node reads the variable when it starts, and has a way to have it read it again.
  if (env.NODE_PATH) Module._initPaths();
}

function start() {
  streams.install(process.env);
  load(process.env._HANDLER, process.env.LAMBDA_TASK_ROOT).then(
    (loaded) => {
      handler = loaded;
      link.send('R');
    },
    (error) => {
      const described = error instanceof InitError ? error.json : describe(error);
      link.sendLast('E', described, () => process.exit(1));
    },
  );
}

// Started before its function is known, this process becomes that function's later.
if (process.env.CALVE_PRELOAD) {
  delete process.env.CALVE_PRELOAD;
  link.send('R');
} else {
  start();
}
