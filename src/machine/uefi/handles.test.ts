// Handles and events by themselves.

import { describe, expect, it } from 'vitest';
import { EventList } from './event-list.ts';
import { HandleDatabase } from './handles.ts';

describe('handles', () => {
  it('are there as long as they have a protocol', () => {
    const handles = new HandleDatabase();
    expect([
      handles.install(1n, 'a', 10n),
      handles.install(1n, 'a', 11n),
      handles.install(1n, 'b', 12n),
    ]).toEqual([true, false, true]);
    handles.install(2n, 'b', 13n);
    expect([handles.find(null), handles.find('b'), handles.find('c')]).toEqual([[1n, 2n], [1n, 2n], []]);
    expect([handles.uninstall(1n, 'c'), handles.uninstall(3n, 'a'), handles.uninstall(1n, 'a')]).toEqual([
      false,
      false,
      true,
    ]);
    expect([handles.has(1n), handles.get(1n, 'a'), handles.get(3n, 'a'), handles.protocolsOf(3n)]).toEqual([
      true,
      undefined,
      undefined,
      [],
    ]);
    handles.uninstall(1n, 'b');
    expect([handles.has(1n), handles.find(null)]).toEqual([false, [2n]]);
  });
});

describe('events', () => {
  const parts = { type: 0, notify: 0n, context: 0n, group: null };

  it('that there are not are neither taken nor due', () => {
    const events = new EventList();
    expect([events.take(1n), events.close(1n), events.nextDue([1n])]).toEqual([false, false, null]);
  });

  it('last as long as what they stand for', () => {
    const events = new EventList();
    let isReady = false;
    events.create(1n, { ...parts, isReady: () => isReady });
    expect(events.take(1n)).toBe(false);
    isReady = true;
    expect([events.take(1n), events.take(1n)]).toEqual([true, true]);
  });

  it('are due by the clock: the earliest of those that are asked for', () => {
    const events = new EventList();
    for (const id of [1n, 2n, 3n]) events.create(id, parts);
    events.get(1n)!.due = 300;
    events.get(2n)!.due = 200;
    events.get(3n)!.due = 100;
    expect([events.nextDue([1n, 2n]), events.nextDue([])]).toEqual([200, null]);
    events.advance(200);
    expect([events.take(1n), events.take(2n), events.take(3n), events.nextDue([2n, 3n])]).toEqual([
      false,
      true,
      true,
      null,
    ]);
  });

  it('of a group are those that have something to call', () => {
    const events = new EventList();
    events.create(1n, { ...parts, group: 'g', notify: 5n });
    events.create(2n, { ...parts, group: 'g' });
    events.create(3n, { ...parts, notify: 5n });
    expect(events.ofGroup('g').map(({ id }) => id)).toEqual([1n]);
  });
});
