// The console: asks the host with the key that was typed in, and shows what it says.
//
// Whatever comes from the host or from functions becomes text nodes and attributes of text, never markup; the page's
// policy has the browser refuse anything else.

const STORE = "calve-key";
const POLL = 1000;
const LIST = 5000;
const POLICIES = 60000; // how old a reuse policy may be that is shown
const CHANGES = 8; // changes of machines that are shown
const FEW = 20; // calls that are listed until somebody asks for more
const SHOWN = 200_000; // characters of a result that are shown

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  set(made, attributes, children);
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(made, attributes, children);
  return made;
}

function set(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
}

// ---- What goes wrong -------------------------------------------------------------------------------------------

/** Something that went wrong, and what to do about it. */
class Problem extends Error {
  constructor(message, remedy, { name = "", status = 0 } = {}) {
    super(message);
    Object.assign(this, { remedy, code: name, status });
  }

  static async of(response) {
    const name = response.headers.get("x-amzn-errortype") ?? "";
    let message = `${response.status} ${response.statusText}`;
    try {
      message = (await response.json()).message ?? message;
    } catch {
      // No JSON: the status has to do.
    }
    return new Problem(message, remedy(name, response), { name, status: response.status });
  }

  /** Whether the key is the reason. */
  get isAboutKey() {
    return KEY_REMEDIES[this.code] !== undefined;
  }
}

const KEY_REMEDIES = {
  UnrecognizedClientException:
    "The host does not know this ID with this secret. Check both, or make a key with `calve key create --tenant NAME`.",
  InvalidSignatureException: "The secret is not this key's. Check it, or make another key.",
  IncompleteSignatureException: "The key is not complete. Enter both parts as `calve key create` showed them.",
  MissingAuthenticationTokenException: "Sign in with a key.",
};

function remedy(name, response) {
  if (KEY_REMEDIES[name]) return KEY_REMEDIES[name];
  const after = response.headers.get("retry-after");
  switch (response.status) {
    case 400: return "Correct what the message names, and try again.";
    case 403: return "Sign in with a key that may do this, such as the root key.";
    case 404: return "It may have been deleted: reload the list of functions, and check the qualifier.";
    case 409: return "Its snapshot is being built or could not be: look at its state, and try again when it is active.";
    case 413: return "Send less.";
    case 429: return `Try again in ${after ?? "some"} s, or give the tenant or function a higher limit.`;
    case 503: return "The host is being shut down: try again when it is back.";
    case 504: return "Give the function more time, or look at its log below.";
    default: return "The log of `calve serve` says more.";
  }
}

function explain(error) {
  if (error instanceof Problem) return error;
  return new Problem(`This page failed: ${error.message}`, "Reload it; if that does not help, tell whoever runs this host.");
}

/** Shows a problem, or that there is none. Unchanged text is left alone: it would be read out again. */
function showProblem(place, error) {
  const problem = error && explain(error);
  const text = problem ? `${problem.message}\n${problem.remedy}` : "";
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.hidden = !problem;
  place.replaceChildren(...(problem ? [el("strong", {}, problem.message), ...withCode(problem.remedy)] : []));
}

/** Text with commands between backticks. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

// ---- The host --------------------------------------------------------------------------------------------------

/** A signed-in key, and everything that is under way with it. */
class Session {
  constructor(id, secret) {
    Object.assign(this, { id, secret, ended: new AbortController() });
  }

  get over() {
    return this.ended.signal.aborted;
  }

  async ask(path, { signal, headers, ...options } = {}) {
    const signals = signal ? [this.ended.signal, signal] : [this.ended.signal];
    let response;
    try {
      response = await fetch(path, {
        ...options,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.any(signals),
        headers: { ...headers, Authorization: `Bearer ${this.id}:${this.secret}` },
      });
    } catch (error) {
      if (signals.some((signal) => signal.aborted)) throw error;
      throw new Problem("The host does not answer.", "See whether `calve serve` runs, and try again.");
    }
    if (!response.ok) throw await Problem.of(response);
    return response;
  }

  async json(path, options) {
    return (await this.ask(path, options)).json();
  }
}

let session = null;
let paused = false;

const sleep = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

/** Does something again and again until the session ends; not while nobody looks. */
async function repeat(mine, pause, work) {
  while (!mine.over) {
    if (!document.hidden && !paused) {
      try {
        await work(mine);
      } catch (error) {
        failed(mine, error);
      }
    }
    await sleep(pause, mine.ended.signal);
  }
}

/** Says that something does not work just now. */
function failed(mine, error) {
  if (mine.over) return;
  if (error.isAboutKey) signOut(error);
  else showProblem($("problem"), error);
}

function works() {
  showProblem($("problem"), null);
}

/** Reads server-sent events (WHATWG HTML, "Parsing an event stream"). EventSource cannot send a key. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        let kind = "message";
        const data = [];
        for (const line of block.split(/\r?\n/)) {
          const [, field, text] = /^([^:]*):? ?(.*)$/.exec(line);
          if (field === "event") kind = text;
          if (field === "data") data.push(text);
        }
        if (data.length) yield { kind, data: data.join("\n") };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function follow(mine) {
  let wait = 500;
  while (!mine.over) {
    try {
      const response = await mine.ask("/calve/v1/events");
      wait = 500;
      showLink("live");
      for await (const { kind, data } of events(response)) {
        if (mine.over) return;
        if (kind === "machine") noteChange(JSON.parse(data));
        soon();
      }
    } catch (error) {
      if (!mine.over && error.isAboutKey) return signOut(error);
    }
    if (mine.over) return;
    showLink("lost");
    await sleep(wait, mine.ended.signal);
    wait = Math.min(wait * 2, 10_000);
  }
}

function showLink(state) {
  const shown = paused ? "paused" : state;
  $("link").dataset.state = state;
  const texts = { live: "live", lost: "connection lost, trying again", paused: "paused" };
  if ($("link").textContent !== texts[shown]) $("link").textContent = texts[shown];
  $("link").className = `link ${shown}`;
}

// ---- Machines --------------------------------------------------------------------------------------------------

const POOLS = [
  ["busy", "Busy", "Serving a call"],
  ["idle", "Idle", "Called before, waiting for the next call"],
  ["warm", "Warm", "Made ahead, never called"],
  ["booting", "Booting", "Being started ahead"],
  ["leaving", "Leaving", "Being reset or ended"],
  ["waiting", "Calls waiting", "Calls that wait for a machine"],
  ["queue", "Queued", "Asynchronous calls that wait or are being made"],
];
const CHANGE_BADGES = { Busy: "good", Dead: "", Draining: "", Warm: "warn", Booting: "warn" };

async function pollTop(mine) {
  const top = await mine.json("/calve/v1/top");
  const counts = { ...top.machines, waiting: top.waiting, queue: top.queue };
  for (const [key] of POOLS) {
    const tile = $(`pool-${key}`);
    const text = String(counts[key] ?? "–");
    if (tile.textContent !== text) tile.textContent = text;
    tile.parentElement.classList.toggle("none", !counts[key]);
  }
}

let looking = false;

/** After a change of a machine: the counts anew, but not for each of many changes. */
async function soon() {
  const mine = session;
  if (looking || !mine || paused || document.hidden) return;
  looking = true;
  await sleep(150, mine.ended.signal);
  looking = false;
  if (!mine.over) await pollTop(mine).catch((error) => failed(mine, error));
}

function noteChange({ machine, tenant, function: name, state }) {
  if (paused) return;
  $("no-changes").hidden = true;
  const now = new Date();
  const item = el("li", { title: `tenant ${tenant}` },
    time(now), name, el("span", { class: "number" }, `#${machine}`),
    el("span", { class: `badge ${CHANGE_BADGES[state] ?? ""}` }, state.toLowerCase()));
  $("changes").prepend(item);
  while ($("changes").children.length > CHANGES) $("changes").lastElementChild.remove();
}

// ---- Functions -------------------------------------------------------------------------------------------------

const rows = new Map(); // by function: { row, drawn }
const policies = new Map(); // by function: { text, at }

async function pollFunctions(mine) {
  const functions = new Map();
  let marker = "";
  do {
    const query = new URLSearchParams({ FunctionVersion: "ALL", ...(marker && { Marker: marker }) });
    const page = await mine.json(`/2015-03-31/functions?${query}`);
    for (const one of page.Functions) {
      const known = functions.get(one.FunctionName) ?? { versions: 0 };
      if (one.Version === "$LATEST") known.latest = one;
      else known.versions += 1;
      functions.set(one.FunctionName, known);
    }
    marker = page.NextMarker ?? "";
  } while (marker);
  for (const [name, { latest }] of functions) if (!latest) functions.delete(name);
  drawFunctions(functions);
  await lookUpPolicies(mine, [...functions.keys()]);
  drawFunctions(functions);
  showProblem($("functions-problem"), null);
}

async function lookUpPolicies(mine, names) {
  const old = names.filter((name) => !(Date.now() - policies.get(name)?.at < POLICIES));
  const next = async () => {
    for (let name = old.pop(); name !== undefined; name = old.pop()) {
      try {
        const policy = await mine.json(`/calve/v1/functions/${encodeURIComponent(name)}/policy`);
        policies.set(name, { text: policyText(policy), at: Date.now() });
      } catch (error) {
        if (mine.over || error.isAboutKey) throw error;
        policies.set(name, { text: "unknown", at: Date.now() });
      }
    }
  };
  await Promise.all([next(), next(), next()]);
}

function policyText({ reuse, routing, idempotency }) {
  const more = [];
  if (reuse === "keep" && routing === "strict") more.push("strict routing");
  if (idempotency) more.push("idempotent");
  return [reuse, ...more].join(", ");
}

function drawFunctions(functions) {
  const names = [...functions.keys()].sort();
  const body = $("functions").tBodies[0];
  for (const [name, { row }] of rows) {
    if (!functions.has(name)) {
      row.remove();
      rows.delete(name);
    }
  }
  let before = null;
  for (const name of names) {
    const { latest, versions } = functions.get(name);
    const drawn = JSON.stringify([latest, versions, policies.get(name)?.text]);
    const known = rows.get(name);
    if (known?.drawn !== drawn) {
      const row = functionRow(name, latest, versions, known?.row.querySelector("button"));
      if (known) known.row.replaceWith(row);
      else if (before) before.after(row);
      else body.prepend(row);
      rows.set(name, { row, drawn });
    }
    before = rows.get(name).row;
  }
  $("functions").hidden = names.length === 0;
  $("no-functions").hidden = names.length !== 0;
  drawChoices($("invoke-function"), names, []);
  drawChoices($("only"), names, [["", "All functions"]]);
}

function functionRow(name, latest, versions, button) {
  const cell = (label, attributes, ...children) =>
    el("td", { role: "cell", "data-label": label, ...attributes }, ...children);
  const hadFocus = button && button === document.activeElement;
  const go = el("button", { type: "button", "aria-label": `Invoke ${name}` }, "Invoke");
  go.addEventListener("click", () => choose(name));
  if (hadFocus) queueMicrotask(() => go.focus());
  const description = latest.Description ? el("span", { class: "hint" }, latest.Description) : null;
  return el("tr", { role: "row", "data-function": name },
    el("td", { role: "cell" }, el("span", { class: "name" }, name), description),
    cell("Runtime", { class: "short" }, latest.Runtime),
    cell("Memory", { class: "number" }, `${latest.MemorySize} MiB`),
    cell("State", {}, ...stateOf(latest)),
    cell("Versions", { class: "number" }, String(versions)),
    cell("Reuse", {}, policies.get(name)?.text ?? "…"),
    el("td", { role: "cell" }, go));
}

function stateOf(latest) {
  const badges = { Active: "good", Pending: "warn", Failed: "bad" };
  const shown = [el("span", { class: `badge ${badges[latest.State] ?? ""}` }, latest.State)];
  if (latest.State === "Failed") shown.push(el("span", { class: "hint" }, latest.StateReason));
  if (latest.State === "Active" && latest.LastUpdateStatus === "InProgress") {
    shown.push(" ", el("span", { class: "badge warn" }, "Updating"));
  }
  if (latest.State === "Active" && latest.LastUpdateStatus === "Failed") {
    shown.push(" ", el("span", { class: "badge bad" }, "Update failed"),
      el("span", { class: "hint" }, `${latest.LastUpdateStatusReason} Calls go to the version before.`));
  }
  return shown;
}

function drawChoices(select, names, first) {
  const wanted = [...first, ...names.map((name) => [name, name])];
  const drawn = JSON.stringify(wanted);
  if (select.dataset.drawn === drawn) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map(([value, text]) => el("option", { value }, text)));
  if (wanted.some(([value]) => value === chosen)) select.value = chosen;
  select.dataset.drawn = drawn;
}

function choose(name) {
  $("invoke-function").value = name;
  $("invoke-title").scrollIntoView({ block: "nearest" });
  $("invoke-event").focus();
}

// ---- Invoking --------------------------------------------------------------------------------------------------

async function invoke(mine) {
  const event = $("invoke-event");
  const text = event.value.trim() || "{}";
  event.removeAttribute("aria-invalid");
  showProblem($("invoke-problem"), null);
  try {
    JSON.parse(text);
  } catch (error) {
    event.setAttribute("aria-invalid", "true");
    showProblem($("invoke-problem"), new Problem("The event is not JSON.", `${error.message}.`));
    return event.focus();
  }
  const name = $("invoke-function").value;
  const qualifier = $("invoke-qualifier").value.trim();
  const query = qualifier ? `?Qualifier=${encodeURIComponent(qualifier)}` : "";
  const giveUp = new AbortController();
  const cancel = () => giveUp.abort();
  $("invoke-cancel").addEventListener("click", cancel);
  busy(true);
  const began = performance.now();
  try {
    const response = await mine.ask(`/2015-03-31/functions/${encodeURIComponent(name)}/invocations${query}`, {
      method: "POST",
      body: text,
      signal: giveUp.signal,
      headers: { "Content-Type": "application/json", "X-Amz-Log-Type": "Tail" },
    });
    const result = await response.text();
    showAnswer(name, response.headers, result, performance.now() - began);
  } catch (error) {
    if (mine.over) return;
    if (error.isAboutKey) return signOut(error);
    $("answer").hidden = true;
    const given = giveUp.signal.aborted;
    const said = given ? new Problem("The call was given up.", "Its machine was ended. What the function did until then is done.") : error;
    showProblem($("invoke-problem"), said);
  } finally {
    $("invoke-cancel").removeEventListener("click", cancel);
    busy(false);
  }
}

function busy(is) {
  // The button keeps the focus: a disabled one would lose it.
  $("invoke-go").setAttribute("aria-disabled", String(is));
  $("invoke-go").textContent = is ? "Invoking…" : "Invoke";
  $("invoke-cancel").hidden = !is;
}

function showAnswer(name, headers, result, took) {
  const error = headers.get("x-amz-function-error");
  $("answer-title").replaceChildren(name, " ", error
    ? el("span", { class: "badge bad" }, "function error")
    : el("span", { class: "badge good" }, "ok"));
  const facts = [
    ["Start", headers.get("x-calve-start")],
    ["Machine", headers.get("x-calve-machine"), "mono"],
    ["Version", headers.get("x-amz-executed-version")],
    ["Seen from here", millis(took)],
    ["Request", headers.get("x-amzn-requestid"), "mono"],
  ];
  const record = { hit: "from its record", joined: "of the same call, which was under way" }[headers.get("x-calve-idempotent")];
  if (record) facts.push(["Answer", record]);
  if (headers.get("x-calve-state-lost")) facts.push(["State", "lost: the machine of before is gone"]);
  $("answer-facts").replaceChildren(...factList(facts));
  showText($("answer-result"), indent(result), "The function gave nothing back.");
  showText($("answer-log"), decode(headers.get("x-amz-log-result")), "The function printed nothing.");
  $("answer").hidden = false;
}

function showText(place, text, ifEmpty) {
  const cut = text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… and ${text.length - SHOWN} characters more` : text;
  place.classList.toggle("empty", !text);
  place.textContent = cut || ifEmpty;
}

function decode(base64) {
  if (!base64) return "";
  return new TextDecoder().decode(Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0)));
}

/** JSON with line breaks. Its numbers and strings stay as they are, which parsing would not ensure. */
function indent(json) {
  let shown = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|[^\s"{}[\],:]+|"/g)) {
    if (token === "{" || token === "[") {
      depth += 1;
      shown += token + line();
    } else if (token === "}" || token === "]") {
      depth = Math.max(0, depth - 1);
      shown += line() + token;
    } else if (token === ",") shown += token + line();
    else if (token === ":") shown += ": ";
    else shown += token.startsWith('"') ? token : token.replace(/\s+/g, "");
  }
  return shown;
}

// ---- Calls -----------------------------------------------------------------------------------------------------

const OUTCOMES = {
  ok: ["good", "ok"],
  function_error: ["bad", "function error"],
  machine_error: ["bad", "machine error"],
  timeout: ["bad", "timeout"],
};

const calls = new Map(); // by key: the item
let recent = [];
let allCalls = false;

async function pollCalls(mine) {
  recent = await mine.json("/calve/v1/invocations");
  drawCalls();
}

function drawCalls() {
  const only = $("only").value;
  const shown = recent.filter((call) => !only || call.function === only);
  drawLatency(shown.map((call) => call.first_output_ms).filter((ms) => ms !== null), only);
  const failedOnly = $("failed-only").checked;
  const fitting = failedOnly ? shown.filter((call) => call.outcome !== "ok") : shown;
  const listed = allCalls ? fitting : fitting.slice(0, FEW);
  $("more").hidden = fitting.length <= FEW;
  $("more").textContent = allCalls ? `Show the last ${FEW}` : `Show all ${fitting.length}`;
  // Tries of one asynchronous call share its id.
  const keyed = new Map(listed.map((call) => [`${call.request} ${call.started_ms} ${call.machine}`, call]));
  for (const [key, item] of calls) {
    if (!keyed.has(key)) {
      item.remove();
      calls.delete(key);
    }
  }
  const fresh = calls.size > 0;
  let before = null;
  for (const [key, call] of keyed) {
    if (!calls.has(key)) {
      const item = callItem(call, fresh);
      if (before) before.after(item);
      else $("calls").prepend(item);
      calls.set(key, item);
    }
    before = calls.get(key);
  }
  $("columns").hidden = listed.length === 0;
  $("no-calls").hidden = listed.length !== 0;
  const none = only ? `None of ${only}` : "None";
  $("no-calls").textContent = failedOnly ? `${none} that failed.` : `${none} yet. Calls appear here when they are over.`;
}

function callItem(call, fresh) {
  const [badge, outcome] = OUTCOMES[call.outcome] ?? ["", call.outcome];
  const tag = (text) => el("span", { class: "tag" }, `${text} `);
  const summary = el("summary", { class: "call" },
    time(new Date(call.started_ms)),
    el("span", { class: "what" }, call.function, el("span", {}, `:${call.version}`)),
    el("span", { class: "outcome" }, el("span", { class: `badge ${badge}` }, outcome)),
    el("span", { class: "start" }, tag("start"), call.start),
    el("span", { class: "number first" }, tag("first output"), millis(call.first_output_ms)),
    el("span", { class: "number took" }, tag("took"), millis(call.took_ms)));
  const details = el("details", {}, summary);
  // What nobody opens is not drawn.
  details.addEventListener("toggle", () => {
    const log = el("pre", { tabindex: "0", "aria-label": "Log" });
    showText(log, call.logs, "The function printed nothing.");
    const facts = [["Request", call.request, "mono"], ["Machine", call.machine, "mono"]];
    details.append(el("div", { class: "inside" },
      el("dl", { class: "facts" }, ...factList(facts)), el("h4", {}, "Log, its last 4 KiB"), log));
  }, { once: true });
  return el("li", { class: fresh ? "new" : null, "data-request": call.request }, details);
}

// ---- The distribution ------------------------------------------------------------------------------------------

const HEIGHT = 190;
const [LEFT, RIGHT, TOP, BOTTOM] = [34, 14, 22, 24];
const PER_DECADE = 8;

/** The nearest rank, as the host's own percentiles: the first that so many of a hundred do not exceed. */
function percentile(sorted, percent) {
  return sorted[Math.ceil(sorted.length * percent / 100) - 1];
}

let drawnLatency = "";

function drawLatency(times, only) {
  const width = Math.floor($("chart").clientWidth);
  const drawn = JSON.stringify([times, only, width]);
  if (drawn === drawnLatency || !width) return;
  drawnLatency = drawn;
  const sorted = times.toSorted((a, b) => a - b);
  const known = sorted.length > 0;
  const [p50, p99] = known ? [percentile(sorted, 50), percentile(sorted, 99)] : [null, null];
  $("percentiles").replaceChildren(...factList([["p50", millis(p50)], ["p99", millis(p99)],
    ["Slowest", millis(sorted.at(-1))], ["Calls", String(sorted.length)]]));
  $("chart-hint").textContent = known
    ? "Calls by the time from the request for a machine to its first output; each column to the right is a third longer."
    : "The times of calls appear here when there are some.";
  $("chart").replaceChildren(...(known ? [histogram(sorted, p50, p99, width, only)] : []));
}

function histogram(sorted, p50, p99, width, only) {
  // Columns on a logarithmic scale, a decade at least.
  const column = (ms) => Math.floor(Math.log10(Math.max(ms, 0.001)) * PER_DECADE);
  let [first, last] = [column(sorted[0]) - 1, column(sorted.at(-1)) + 1];
  while (last - first + 1 < PER_DECADE * 1.5) [first, last] = [first - 1, last + 1];
  const counts = new Array(last - first + 1).fill(0);
  for (const ms of sorted) counts[column(ms) - first] += 1;
  const most = Math.max(...counts);
  const x = (ms) => LEFT + (Math.log10(Math.max(ms, 0.001)) * PER_DECADE - first) / counts.length * (width - LEFT - RIGHT);
  const y = (count) => HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM);
  const edge = (index) => 10 ** ((first + index) / PER_DECADE);

  const drawn = [svg("text", { x: 4, y: 10 }, "calls")];
  for (const count of new Set([Math.ceil(most / 2), most])) {
    drawn.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(count), y2: y(count) }),
      svg("text", { x: LEFT - 6, y: y(count) + 4, "text-anchor": "end" }, String(count)));
  }
  counts.forEach((count, index) => {
    if (!count) return;
    const [from, to] = [x(edge(index)), x(edge(index + 1))];
    drawn.push(svg("rect", { class: "bar", rx: 2, x: from + 1, width: Math.max(1, to - from - 2), y: y(count),
      height: HEIGHT - BOTTOM - y(count) },
      svg("title", {}, `${millis(edge(index))} to ${millis(edge(index + 1))}: ${count} calls`)));
  });
  drawn.push(svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  let after = -Infinity;
  for (let decade = Math.floor(first / PER_DECADE); decade <= last / PER_DECADE + 1; decade += 1) {
    for (const step of [1, 2, 5]) {
      const ms = step * 10 ** decade;
      if (x(ms) < Math.max(LEFT, after + 52) || x(ms) > width - RIGHT - 12) continue;
      after = x(ms);
      drawn.push(svg("line", { class: "axis", x1: after, x2: after, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }),
        svg("text", { x: after, y: HEIGHT - 6, "text-anchor": "middle" }, tick(ms)));
    }
  }
  const apart = x(p99) - x(p50) > 70;
  for (const [name, ms] of apart ? [["p50", p50], ["p99", p99]] : [["p50 p99", p50]]) {
    const right = x(ms) > width - 60;
    drawn.push(svg("line", { class: "mark", x1: x(ms), x2: x(ms), y1: 6, y2: HEIGHT - BOTTOM }),
      svg("text", { class: "mark-text", x: x(ms) + (right ? -5 : 5), y: 14, "text-anchor": right ? "end" : "start" }, name));
  }
  if (!apart) drawn.push(svg("line", { class: "mark", x1: x(p99), x2: x(p99), y1: 18, y2: HEIGHT - BOTTOM }));
  const what = `Distribution of ${sorted.length} calls${only ? ` of ${only}` : ""}: half within ${millis(p50)}, 99 of 100 within ${millis(p99)}`;
  return svg("svg", { role: "img", "aria-label": what, viewBox: `0 0 ${width} ${HEIGHT}` }, ...drawn);
}

// ---- Texts -----------------------------------------------------------------------------------------------------

function millis(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** A round number of milliseconds. */
function tick(ms) {
  if (ms >= 1000) return `${Number((ms / 1000).toPrecision(1))} s`;
  return ms < 1 ? `${Number((ms * 1000).toPrecision(1))} µs` : `${Number(ms.toPrecision(1))} ms`;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

function time(at) {
  const text = at.toLocaleTimeString([], CLOCK);
  return el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, text);
}

function factList(facts) {
  return facts.map(([term, text, kind]) =>
    el("div", {}, el("dt", {}, term), el("dd", { class: kind }, text || "–")));
}

// ---- Signing in and out ----------------------------------------------------------------------------------------

function remembered() {
  try {
    const { id, secret } = JSON.parse(sessionStorage.getItem(STORE));
    return { id, secret };
  } catch {
    return null;
  }
}

/** A key that was let in before is not forgotten because the host does not answer just now. */
async function signIn(id, secret, wasIn = false) {
  const mine = new Session(id, secret);
  $("enter").setAttribute("aria-disabled", "true");
  try {
    if (!/^[\x21-\x7e]+$/.test(id + secret)) {
      throw new Problem("This is no access key.", KEY_REMEDIES.IncompleteSignatureException);
    }
    await mine.json("/calve/v1/top");
  } catch (error) {
    if (!wasIn || error.isAboutKey) return signOut(error);
    failed(mine, error);
  } finally {
    $("enter").removeAttribute("aria-disabled");
  }
  sessionStorage.setItem(STORE, JSON.stringify({ id, secret }));
  session = mine;
  $("key-id").value = $("key-secret").value = "";
  showProblem($("sign-in-problem"), null);
  $("sign-in").hidden = true;
  $("board").hidden = $("session").hidden = false;
  $("key-shown").textContent = id;
  $("content").focus({ preventScroll: true });
  follow(mine);
  repeat(mine, POLL, async (mine) => {
    await Promise.all([pollTop(mine), pollCalls(mine)]);
    works();
  });
  repeat(mine, LIST, listFunctions);
}

async function listFunctions(mine) {
  try {
    await pollFunctions(mine);
  } catch (error) {
    if (mine.over || error.isAboutKey) return failed(mine, error);
    // Nobody is told twice that the host does not answer.
    if (error.status) showProblem($("functions-problem"), error);
  }
}

/** Forgets the key and all that it has shown. */
function signOut(why = null) {
  session?.ended.abort();
  session = null;
  sessionStorage.removeItem(STORE);
  works();
  rows.clear();
  policies.clear();
  calls.clear();
  recent = [];
  allCalls = false;
  drawnLatency = "";
  for (const place of [$("functions").tBodies[0], $("calls"), $("changes"), $("chart"), $("percentiles")]) {
    place.replaceChildren();
  }
  for (const select of [$("invoke-function"), $("only")]) delete select.dataset.drawn;
  drawChoices($("invoke-function"), [], []);
  drawChoices($("only"), [], [["", "All functions"]]);
  showProblem($("functions-problem"), null);
  showProblem($("invoke-problem"), null);
  for (const place of ["answer-facts", "answer-title", "answer-result", "answer-log"]) $(place).replaceChildren();
  $("answer").hidden = $("board").hidden = $("session").hidden = true;
  $("invoke-event").value = "{}";
  $("invoke-qualifier").value = "";
  $("no-changes").hidden = false;
  $("sign-in").hidden = false;
  showProblem($("sign-in-problem"), why);
  $("key-id").focus();
}

function start() {
  $("tiles").replaceChildren(...POOLS.map(([key, text, title]) =>
    el("div", { class: "none", title }, el("dt", {}, text), el("dd", { id: `pool-${key}` }, "0"))));
  const form = (id, work) => $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.target.querySelector("[type=submit]");
    if (button.getAttribute("aria-disabled") !== "true") work();
  });
  form("sign-in", () => signIn($("key-id").value.trim(), $("key-secret").value.trim()));
  form("invoke", () => session && invoke(session));
  $("invoke-event").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("invoke").requestSubmit();
  });
  $("sign-out").addEventListener("click", () => signOut());
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    showLink($("link").dataset.state ?? "lost");
  });
  $("reload").addEventListener("click", () => {
    policies.clear();
    if (session) listFunctions(session);
  });
  $("only").addEventListener("change", drawCalls);
  $("failed-only").addEventListener("change", drawCalls);
  $("more").addEventListener("click", () => {
    allCalls = !allCalls;
    drawCalls();
  });
  new ResizeObserver(() => session && drawCalls()).observe($("chart"));
  const key = remembered();
  if (key) signIn(key.id, key.secret, true);
  else signOut();
}

start();
