// The page tables in force as fields: each table, and what they map.

import { hex } from '../../hex.ts';
import type { PageTableWalk } from '../../x86/page-tables.ts';
import type { DecodedField } from './decoded.ts';

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  5: 'PML5',
  4: 'PML4',
  3: 'page directory pointers',
  2: 'page directory',
  1: 'page table',
};

/** @param walk - null: without paging */
export function decodePageTables(walk: PageTableWalk | null): DecodedField[] {
  if (walk === null || walk.mode === 'off') {
    return [
      { name: 'paging', address: 0, size: 0, value: 'off', text: 'off: every linear address is its own' },
    ];
  }
  const root = Number(walk.root);
  return [
    {
      ...{ name: 'paging', address: root, size: 0, value: walk.mode },
      text: `${walk.mode}, root ${hex(walk.root)}${walk.identity ? ', every mapped address is its own' : ''}${walk.truncated ? ', only the first of them' : ''}`,
    },
    ...walk.tables.map(({ address, size, level }) => ({
      ...{ name: 'table', address: Number(address), size, value: level },
      text: LEVEL_NAMES[level] ?? `level ${level}`,
    })),
    ...walk.ranges.map(({ start, end, physical, writable, user, executable, pageSize }) => ({
      ...{ name: 'mapped', address: Number(physical), size: Number(end - start), value: hex(start) },
      text: `${hex(start)}..${hex(end)} ${[writable ? 'writable' : 'read-only', user ? 'user' : 'supervisor', executable ? 'executable' : 'no-execute'].join(', ')}, pages of ${hex(pageSize)}`,
    })),
  ];
}
