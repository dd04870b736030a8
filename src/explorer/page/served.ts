// The page that the explorer's server serves: its machine is at the other end of the socket.

import { socketLine } from './connection.ts';
import { showBoot } from './main.tsx';

const root = document.createElement('div');
document.body.append(root);
void showBoot(root, socketLine);
