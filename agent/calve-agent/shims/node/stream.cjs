// Results that leave while their handler is at it: the global `awslambda` of AWS Lambda's Node runtime.
//
// A handler that `awslambda.streamifyResponse` marks is called with (event, responseStream, context). What it writes goes to
// the agent in frames; while the host is behind, these stay in the socket, `write` says false, and 'drain' comes when there
// is room. The call is over when the handler's promise is settled and the stream is finished, in whichever order.
'use strict';

const { Writable } = require('node:stream');

// The mark, as AWS Lambda's runtime writes it and libraries that wrap handlers look for it.
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

// The agent's bounds: of a part, of a stream, of a result that its caller wants whole; in bytes.
const MAX_CHUNK = 64 << 10;
const MAX_STREAM = 200 << 20;
const MAX_RESULT = 6 << 20;

const UNKNOWN = 'application/octet-stream';
/** The type of a stream that begins with the head of an HTTP response. */
const WITH_HEAD = 'application/vnd.awslambda.http-integration-response';
/** Zero bytes between that head and the body. */
const SEPARATOR = 8;

/** What of a stream is ours. Not private fields: functions wrap streams in proxies. */
const OWN = Symbol('own');

/** An error with one of AWS Lambda's names. */
function named(name, message) {
  return Object.assign(new Error(message), { name });
}

class ResponseStream extends Writable {
  /** `call.done` says that nothing more may be sent. `limit`: most bytes; `call.exceed(text)` tells that it is passed. */
  constructor(link, call, limit, highWaterMark) {
    super({ highWaterMark });
    this[OWN] = { link, call, limit, size: 0, contentType: UNKNOWN, written: false, begun: false, failed: false };
    // Whoever reads the outcome hears of errors; one that no listener of the function takes must not end the process.
    this.on('error', () => {});
  }

  setContentType(contentType) {
    if (this[OWN].written) {
      throw named('Runtime.InvalidStreamingOperation', 'Cannot set content-type, too late.');
    }
    if (typeof contentType !== 'string' || !/^[\t\x20-\x7e]+$/.test(contentType)) {
      throw new TypeError('Invalid content type');
    }
    this[OWN].contentType = contentType;
  }

  write(chunk, encoding, callback) {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
    if (this.writable) writeHead(this);
    // Another kind of value is sent as JSON, as in AWS Lambda.
    const plain = typeof chunk === 'string' || chunk instanceof Uint8Array || chunk === null || chunk === undefined;
    const data = plain ? chunk : JSON.stringify(chunk);
    const own = this[OWN];
    // Counted here, not where it is sent: what waits in this stream's buffer is bounded, too.
    if (this.writable && data) own.size += Buffer.byteLength(data, encoding);
    if (own.size <= own.limit) return super.write(data, encoding, callback);
    const error = new Error(tooLarge(own.limit));
    own.call.exceed(error.message);
    this.destroy(error);
    if (callback) process.nextTick(callback, error);
    return false;
  }

  end(chunk, encoding, callback) {
    if (typeof chunk === 'function') [chunk, callback] = [undefined, chunk];
    else if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
    if (chunk !== undefined && chunk !== null) this.write(chunk, encoding);
    // A head alone is a response, too.
    else if (this.writable) writeHead(this);
    return super.end(callback);
  }

  _write(chunk, encoding, callback) {
    this._writev([{ chunk }], callback);
  }

  _writev(chunks, callback) {
    const { link, call } = this[OWN];
    if (call.done) return void callback(new Error('The invocation is over.'));
    begin(this);
    const parts = [];
    for (const { chunk } of chunks) {
      for (let at = 0; at < chunk.length; at += MAX_CHUNK) parts.push(chunk.subarray(at, at + MAX_CHUNK));
    }
    const last = parts.pop();
    if (!last) return void callback();
    for (const part of parts) link.send('P', part);
    // Called when the socket has taken all of it.
    link.send('P', last, callback);
  }

  _final(callback) {
    const { call, failed } = this[OWN];
    if (!call.done && !failed) begin(this);
    callback();
  }
}

/** Runs once, before anything is written: AWS Lambda's hook, under the name that it has there. */
function writeHead(stream) {
  const own = stream[OWN];
  if (own.written) return;
  own.written = true;
  stream._onBeforeFirstWrite?.((data) => stream.write(data));
}

/** Tells the agent that a stream comes, once. */
function begin(stream) {
  const own = stream[OWN];
  if (own.begun) return;
  own.begun = true;
  own.link.send('B', Buffer.from(own.contentType));
}

function tooLarge(limit) {
  return limit === MAX_RESULT
    ? `Response payload size exceeded maximum allowed payload size (${limit} bytes).`
    : `The streamed response exceeded the ${limit} bytes that it may have.`;
}

const awslambda = {
  /** Marks a handler; returns it. */
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response';
    const mark = options?.highWaterMark;
    if (typeof mark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(mark);
    return handler;
  },

  HttpResponseStream: class HttpResponseStream {
    /** Has a stream begin with the head of an HTTP response: status, headers, cookies. Returns the stream. */
    static from(stream, head) {
      stream.setContentType(WITH_HEAD);
      const text = JSON.stringify(head);
      stream._onBeforeFirstWrite = (write) => {
        write(text);
        write(new Uint8Array(SEPARATOR));
      };
      return stream;
    }
  },
};

/** Gives functions their global, unless this one wants none. */
function install(env) {
  if (['1', 'true'].includes(env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) return;
  globalThis.awslambda = { ...globalThis.awslambda, ...awslambda };
}

function isStreaming(handler) {
  return handler[STREAMING] === 'response';
}

/**
 * Calls a marked handler. `call.whole()`, `call.fail(error)` and `call.exceed(text)` end the call, once and whoever is first;
 * `call.idle` is to be called when nothing is left to wait for. `passedOn`: the caller takes the result as it comes.
 */
function run(handler, event, context, { link, call, passedOn }) {
  const mark = handler[HIGH_WATER_MARK];
  const stream = new ResponseStream(link, call, passedOn ? MAX_STREAM : MAX_RESULT, mark > 0 ? mark : undefined);
  const { fail } = call;
  call.fail = (error) => {
    if (stream.closed) return void fail(error);
    stream[OWN].failed = true;
    // What was written before the error leaves before it; whatever still feeds the stream stops.
    stream.once('close', () => fail(error));
    Writable.prototype.end.call(stream);
  };
  const unfinished = () => call.fail(stream.errored ?? new Error('Response stream is not finished.'));
  let returned = false;
  const settle = () => {
    if (!returned || stream[OWN].failed) return;
    if (stream.writableFinished) call.whole();
    else if (stream.destroyed) unfinished();
  };
  stream.on('finish', settle);
  stream.on('close', settle);
  call.idle = () => (stream.writableFinished ? call.whole() : unfinished());
  const promise = handler(event, stream, context);
  if (typeof promise?.then !== 'function') throw new Error('Streaming does not support non-async handlers.');
  promise.then((value) => {
    if (value !== undefined) console.warn('Streaming handlers ignore return values.');
    returned = true;
    settle();
  }, call.fail);
}

module.exports = { install, isStreaming, run };
