// Finds the handler, and tells of errors as AWS Lambda's Node runtime does.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');

/** The handler cannot be loaded, for one of the reasons that AWS Lambda has names for. */
class InitError extends Error {
  constructor(errorType, errorMessage, stackTrace = []) {
    super(errorMessage);
    this.json = { errorType, errorMessage, stackTrace };
  }
}

/** Type, message and stack of whatever was thrown. Never throws itself. */
function describe(error) {
  try {
    if (error instanceof Error || typeof error?.stack === 'string') {
      const stackTrace = String(error.stack).split('\n');
      return { errorType: String(error.name ?? 'Error'), errorMessage: String(error.message), stackTrace };
    }
    return { errorType: typeof error, errorMessage: String(error), stackTrace: [] };
  } catch {
    return { errorType: 'Error', errorMessage: 'an error that cannot be described', stackTrace: [] };
  }
}

/** `dir/app.sub.handler` → folder `dir`, file `app`, property path `sub.handler`. */
function parse(name, root) {
  const base = path.basename(name);
  const match = /^([^.]+)\.(.+)$/.exec(base);
  if (!match || name.includes('..')) throw new InitError('Runtime.MalformedHandlerName', `Bad handler: ${name}`);
  return { file: path.resolve(root, path.dirname(name), match[1]), property: match[2] };
}

/** Whether the nearest package.json makes `.js` files ES modules. */
function isModuleScope(file) {
  for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(dir, 'package.json'), 'utf8')).type === 'module';
    } catch (error) {
      if (error.code !== 'ENOENT') return false;
    }
    if (dir === path.dirname(dir)) return false;
  }
}

/** Loads the module, in the order in which AWS Lambda looks for it. */
async function loadModule(file, root) {
  const require = createRequire(path.join(root, 'index.js'));
  for (const extension of ['.js', '.mjs', '.cjs']) {
    const full = file + extension;
    if (!fs.existsSync(full)) continue;
    const isModule = extension === '.mjs' || (extension === '.js' && isModuleScope(full));
    return isModule ? await import(pathToFileURL(full).href) : require(full);
  }
  // A folder with an index, or a package in node_modules.
  return require(file);
}

/** The function that `name` stands for. */
async function load(name, root) {
  const { file, property } = parse(name, root);
  let loaded;
  try {
    loaded = await loadModule(file, root);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new InitError('Runtime.UserCodeSyntaxError', String(error), describe(error).stackTrace);
    }
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
      throw new InitError('Runtime.ImportModuleError', `Error: ${error.message}`, describe(error).stackTrace);
    }
    throw error;
  }
  const find = (exports) => property.split('.').reduce((object, key) => object?.[key], exports);
  // A bundler may leave the exports of a CommonJS module under an ES module's default.
  const handler = find(loaded) ?? find(loaded?.default);
  if (handler === undefined) {
    throw new InitError('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof handler !== 'function') {
    throw new InitError('Runtime.HandlerNotFound', `${name} is not a function`);
  }
  return handler;
}

module.exports = { InitError, describe, load };
