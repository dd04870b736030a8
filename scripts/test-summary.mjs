// Adds up what a test run left behind, names what was skipped, and ends with `N passed, N failed, N skipped`.
// A test file that was not run, a file without tests and a crash of the runner count as failures.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const [folder, argumentCount] = process.argv.slice(2);
const wholeSuite = argumentCount === '0';
let passed = 0;
const failures = [];
/** `{ describes, name }` of each skipped test. */
const skipped = [];
/** How many tests each describe holds, by file and path. */
const sizes = new Map();

for (const line of readText('checks').split('\n').filter(Boolean)) {
  const [status, name] = line.split('\t');
  if (status === '0') passed++;
  else failures.push(name);
}

const report = JSON.parse(readText('vitest.json') || '{"testResults":[]}');
const filesRun = new Set();
for (const file of report.testResults) {
  const name = relative(process.cwd(), file.name);
  filesRun.add(name);
  if (file.assertionResults.length === 0) failures.push(`${name}: ${file.message || 'no test in it'}`);
  for (const test of file.assertionResults) {
    const describes = describePaths(name, test.ancestorTitles ?? []);
    for (const path of describes) sizes.set(path, (sizes.get(path) ?? 0) + 1);
    if (test.status === 'passed') passed++;
    else if (test.status === 'failed') failures.push(`${name}: ${test.fullName}`);
    else skipped.push({ describes, name: `${name}: ${test.fullName}` });
  }
}
if (report.testResults.length === 0) failures.push('vitest ran no test');
if (wholeSuite) {
  for (const file of testFiles('.')) {
    if (!filesRun.has(file)) failures.push(`${file}: was not run`);
  }
}
// CI promises what it tests: a skip that nobody expects there is a failure.
if (process.env.BOOTSCOPE_EXPECTED_SKIPS) {
  const expected = readFileSync(process.env.BOOTSCOPE_EXPECTED_SKIPS, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => new RegExp(line));
  for (const line of skippedLines()) {
    if (!expected.some((pattern) => pattern.test(line)))
      failures.push(`skipped, and not expected to be: ${line.trim()}`);
  }
}
const vitestStatus = readText('vitest-status').split('\t')[0];
if (vitestStatus !== '0' && failures.length === 0) failures.push(`vitest ended with status ${vitestStatus}`);

if (skipped.length > 0) console.log(`\nSkipped:\n${[...skippedLines()].join('\n')}`);
if (failures.length > 0) console.log(`\nFailed:\n${failures.map((name) => `  ${name}`).join('\n')}`);
const summary = `${passed} passed, ${failures.length} failed, ${skipped.length} skipped`;
writeFileSync(join(folder, 'summary'), `${summary}\n`);
writeFileSync(join(folder, 'failed'), failures.map((name) => `${name}\n`).join(''));
console.log(`\n${summary}`);
process.exitCode = failures.length === 0 ? 0 : 1;

/** The describes around a test from the outermost on, each as `file: outer > inner`. */
function describePaths(file, titles) {
  return titles.map((_, index) => `${file}: ${titles.slice(0, index + 1).join(' > ')}`);
}

/** A line a test; a describe that was left out as a whole, with the reason in its title, is one line. */
function skippedLines() {
  const counts = new Map();
  for (const { describes } of skipped) {
    for (const path of describes) counts.set(path, (counts.get(path) ?? 0) + 1);
  }
  return new Set(
    skipped.map(({ describes, name }) => {
      const whole = describes.find((path) => counts.get(path) === sizes.get(path) && sizes.get(path) > 1);
      return whole === undefined ? `  ${name}` : `  ${whole} (${sizes.get(whole)} tests)`;
    }),
  );
}

function readText(file) {
  try {
    return readFileSync(join(folder, file), 'utf8');
  } catch {
    return '';
  }
}

function testFiles(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) {
      const left = ['node_modules', 'dist', '.git', 'cache', 'coverage'].includes(entry.name);
      return left ? [] : testFiles(join(directory, entry.name));
    }
    return entry.name.endsWith('.test.ts') ? [join(directory, entry.name)] : [];
  });
}
