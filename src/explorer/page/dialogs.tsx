// What the keys do, and the tour: the words that the page uses and what to press first.

import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

function Dialog(props: {
  readonly id: string;
  readonly title: string;
  readonly close: () => void;
  readonly children: JSX.Element | readonly JSX.Element[];
}): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} id={props.id} aria-labelledby={`${props.id}-title`} onClose={props.close}>
      <h2 id={`${props.id}-title`}>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

const KEYS: readonly (readonly [string, string])[] = [
  ['s', 'one instruction on'],
  ['S', 'one instruction back'],
  ['n', 'on, behind a call, an interrupt or a repeated instruction'],
  ['c', 'on, to the next stop that is set or to the end'],
  ['C', 'back to the first instruction'],
  ['p', 'to the next phase'],
  ['P', 'back to where this phase begins, or the one before'],
  ['g', 'name a place to go to'],
  ['/', 'find a name or an address'],
  ['Esc', 'cancel what runs'],
  ['t', 'dark or light'],
  ['w', 'what the words mean'],
  ['?', 'this list'],
];

export function HelpDialog({ close }: { readonly close: () => void }): JSX.Element {
  return (
    <Dialog id="help" title="Keys" close={close}>
      <dl class="keys">
        {KEYS.flatMap(([key, text]) => [
          <dt key={`${key}-key`}>
            <kbd>{key}</kbd>
          </dt>,
          <dd key={`${key}-text`}>{text}</dd>,
        ])}
      </dl>
      <form method="dialog">
        <button type="submit">Close</button>
      </form>
    </Dialog>
  );
}

const TOUR: readonly { readonly title: string; readonly text: readonly string[] }[] = [
  {
    title: 'A boot that waits for you',
    text: [
      'The machine stands before the first instruction of the kernel image. Nothing runs until you say so: press s for one instruction, p for the next phase. Capitals go back.',
      'Phases are where the boot changes hands: setup runs in real mode and asks the BIOS; startup_32 and startup_64 are the first instructions in protected and in long mode; relocated is the same code after it has copied itself out of the way; kernel is the jump.',
    ],
  },
  {
    title: 'What lies where',
    text: [
      'The picture shows physical memory at this moment, low addresses at the top. ZO is the compressed kernel with its boot stub, as the loader put it there and later as its own copy. VO is the kernel proper, which comes out of the payload. The run area is all that VO needs, with its bss; init_size in the header says how much a loader must keep free for it.',
      'Choose a region to see its bytes below. What has just changed is marked.',
    ],
  },
  {
    title: 'Looking closer',
    text: [
      'Next instructions are those that the CPU will execute; a circle beside one sets a stop. Registers that the last move changed are marked, and each leads to the memory that it points to.',
      'Stops may also be writes: look at memory, then choose "stop on write", and continue with c. The address bar always holds the moment that you see: a link to it leads back here.',
    ],
  },
];

export function TourDialog({ close }: { readonly close: () => void }): JSX.Element {
  const [page, setPage] = useState(0);
  const { title, text } = TOUR[page]!;
  const last = page === TOUR.length - 1;
  return (
    <Dialog id="tour" title={title} close={close}>
      <div class="tour">
        {text.map((paragraph) => (
          <p key={paragraph}>{paragraph}</p>
        ))}
      </div>
      <div class="toolbar">
        <span class="hint">
          {page + 1} of {TOUR.length}
        </span>
        <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>
          Back
        </button>
        <button
          type="button"
          id="tour-next"
          onClick={() =>
            last ? document.querySelector<HTMLDialogElement>('#tour')?.close() : setPage(page + 1)
          }
        >
          {last ? 'Start' : 'Next'}
        </button>
      </div>
    </Dialog>
  );
}
