// The socket to the agent: frames of a type byte, a 4-byte little-endian length, and that many bytes.
'use strict';

const net = require('node:net');

const HEADER = 5;

class Link {
  /** Calls `onFrame(kind, payload)` for each frame that comes in on `fd`. */
  constructor(fd, onFrame) {
    this.pieces = [];
    this.size = 0;
    this.onFrame = onFrame;
    this.socket = new net.Socket({ fd, readable: true, writable: true });
    this.socket.on('data', (data) => this.take(data));
    // The agent is gone, and with it everything to do here.
    this.socket.on('end', () => process.exit(1));
    this.socket.on('error', () => process.exit(1));
  }

  take(data) {
    this.pieces.push(data);
    this.size += data.length;
    // A long event comes in many pieces; they are joined once it is complete.
    if (this.wanted !== undefined && this.size < this.wanted) return;
    let input = this.pieces.length === 1 ? data : Buffer.concat(this.pieces);
    this.wanted = undefined;
    while (input.length >= HEADER) {
      const end = HEADER + input.readUInt32LE(1);
      if (input.length < end) {
        this.wanted = end;
        break;
      }
      const kind = String.fromCharCode(input[0]);
      const payload = input.subarray(HEADER, end);
      input = input.subarray(end);
      this.onFrame(kind, payload);
    }
    this.pieces = input.length ? [input] : [];
    this.size = input.length;
  }

  send(kind, payload = Buffer.alloc(0), done = undefined) {
    const header = Buffer.allocUnsafe(HEADER);
    header.writeUInt8(kind.charCodeAt(0), 0);
    header.writeUInt32LE(payload.length, 1);
    this.socket.cork();
    this.socket.write(header);
    this.socket.write(payload, done);
    this.socket.uncork();
  }

  sendJson(kind, value, done) {
    this.send(kind, Buffer.from(JSON.stringify(value)), done);
  }

  /** Sends a last frame (none if `kind` is undefined), then calls `done`. */
  sendLast(kind, value, done) {
    if (kind === undefined) done();
    else this.sendJson(kind, value, done);
  }

  ref() {
    this.socket.ref();
  }

  unref() {
    this.socket.unref();
  }
}

module.exports = { Link };
