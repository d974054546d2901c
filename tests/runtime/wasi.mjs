// Runs a WebAssembly module of WASI: node wasi.mjs MODULE

import { readFileSync } from 'node:fs';
import { WASI } from 'node:wasi';

const path = process.argv[2];
const wasi = new WASI({
  version: 'preview1',
  args: [path],
  env: process.env,
});
const module = new WebAssembly.Module(readFileSync(path));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
process.exit(wasi.start(new WebAssembly.Instance(module, imports)));
