// The page that the explorer's server serves: its machine is at the other end of the socket that the page's head has opened.

import type {} from './early.ts';
import { showBoot } from './main.tsx';

const root = document.createElement('div');
document.body.append(root);
void showBoot(root, () => globalThis.bootscopeLine);
