// The glossary as a dialog of the page.

import { GLOSSARY } from '../glossary.ts';
import { h } from './dom.ts';

export function wordsDialog(): HTMLDialogElement {
  const dialog = h(
    'dialog',
    { id: 'words', 'aria-labelledby': 'words-title' },
    h('h2', { id: 'words-title' }, 'Words'),
    h(
      'dl',
      { class: 'words' },
      ...GLOSSARY.flatMap(({ word, meaning }) => [h('dt', {}, word), h('dd', {}, meaning)]),
    ),
    h('form', { method: 'dialog' }, h('button', {}, 'Close')),
  );
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
