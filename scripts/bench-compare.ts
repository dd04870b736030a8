// `scripts/bench-compare OLD.json NEW.json [--tolerance 0.15]`: exit status 1 where something got slower.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type BenchResult, compareResults } from './bench-result.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tolerance: { type: 'string', default: '0.15' } },
});
const tolerance = Number(values.tolerance);
if (positionals.length !== 2 || !(tolerance >= 0)) {
  console.error('usage: scripts/bench-compare OLD.json NEW.json [--tolerance 0.15]');
  process.exit(2);
}
const [before, after] = positionals.map((path) => JSON.parse(readFileSync(path, 'utf8')) as BenchResult);

const rows = compareResults(before!, after!);
if (rows.length === 0) {
  console.error('bench-compare: the two runs measured nothing in common');
  process.exit(2);
}
let slower = 0;
for (const row of rows) {
  const worse = row.ratio > 1 + tolerance;
  if (worse) slower++;
  const verdict = worse ? 'SLOWER' : row.ratio < 1 - tolerance ? 'faster' : '';
  const figures = `${row.old.toPrecision(3).padStart(8)} -> ${row.new.toPrecision(3).padStart(8)}`;
  console.log(`${figures}  x${row.ratio.toFixed(2)}  ${verdict.padEnd(6)}  ${row.name}`);
}
console.log(`\n${slower} of ${rows.length} figures are worse by more than ${Math.round(tolerance * 100)} %`);
process.exitCode = slower > 0 ? 1 : 0;
