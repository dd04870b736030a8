// The page without a server: its machine is a worker, its kernel the demo image or a file that somebody gives it. The file stays
// in the browser.

import { h } from '../../report/page/dom.ts';
import { type Line, workerLine } from './connection.ts';
import { showBoot } from './main.tsx';

/** What the build puts beside the page, or into it: the element's text, else what the address in `data-source` holds. */
async function textOf(id: string): Promise<string> {
  const element = document.getElementById(id)!;
  const { source } = element.dataset;
  return source === undefined ? (element.textContent ?? '') : (await fetch(source)).text();
}

async function demoImage(): Promise<Uint8Array> {
  return Uint8Array.from(atob((await textOf('demo')).trim()), (character) => character.charCodeAt(0));
}

const DEMO_NAME = 'demo-gzip.bzImage';

/** The link that the page was opened with may lead into the boot of a file that only its reader has. */
const asked = new URLSearchParams(location.hash.slice(1)).get('image');

let shown: { close(): void } | null = null;
let running: (Line & { close(): void }) | null = null;
let image: { readonly name: string; readonly bytes: Uint8Array } | null = null;

const root = document.createElement('div');
const fileInput = h('input', { type: 'file', id: 'kernel-file' });
const cmdlineInput = h('input', { type: 'text', id: 'cmdline', placeholder: 'nokaslr console=ttyS0' });
const decompressInput = h(
  'select',
  { id: 'decompress' },
  h('option', { value: 'hooked' }, 'hooked'),
  h('option', { value: 'emulated' }, 'emulated'),
);
const chooser = h(
  'form',
  { class: 'chooser card', 'aria-label': 'What is booted' },
  h('label', { for: 'kernel-file' }, 'Kernel image '),
  fileInput,
  h('label', { for: 'cmdline' }, 'Command line '),
  cmdlineInput,
  h('label', { for: 'decompress' }, 'Decompression '),
  decompressInput,
  h('button', { type: 'submit' }, 'Boot'),
  h('p', { class: 'hint' }, 'Or drop a kernel anywhere. It is booted in this page and goes nowhere.'),
);

async function boot(): Promise<void> {
  if (image === null) return;
  shown?.close();
  running?.close();
  const source = await textOf('worker');
  const options = {
    cmdline: cmdlineInput.value,
    decompress: decompressInput.value === 'emulated' ? 'emulated' : 'hooked',
  } as const;
  const { name, bytes } = image;
  shown = await showBoot(root, () => {
    running = workerLine(source, { name, bytes, ...options });
    return Promise.resolve(running);
  });
}

/** A link into the boot of an image means nothing in that of another, or with other options. */
function forgetMoment(): void {
  history.replaceState(null, '', `#${new URLSearchParams({ image: image?.name ?? '' })}`);
}

async function take(file: File): Promise<void> {
  const first = image === null;
  image = { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) };
  if (!first || file.name !== asked) forgetMoment();
  await boot();
}

fileInput.addEventListener('change', () => {
  const [file] = fileInput.files ?? [];
  if (file !== undefined) void take(file);
});
chooser.addEventListener('submit', (event) => {
  event.preventDefault();
  forgetMoment();
  void boot();
});
window.addEventListener('dragover', (event) => event.preventDefault());
window.addEventListener('drop', (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (file !== undefined) void take(file);
});

document.body.append(chooser, root);
if (asked === null || asked === DEMO_NAME) {
  image = { name: DEMO_NAME, bytes: await demoImage() };
  await boot();
} else {
  root.append(
    h('p', { id: 'asked' }, `This link leads into the boot of ${asked}: choose that file, or drop it here.`),
  );
}
