import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import { HAZARD_CODES, PHASE_NAMES } from '../trace/boot-trace.ts';
import { traceToJson } from './json.ts';
import { REGION_KIND_STYLES } from './region-kinds.ts';
import { someNamedTrace, someTrace } from './test-traces.ts';

const schema = JSON.parse(readFileSync(new URL('../../docs/trace.schema.json', import.meta.url), 'utf8')) as {
  readonly $defs: Record<
    string,
    { enum: unknown; properties: Record<string, { enum: unknown; required: unknown }> }
  >;
  readonly properties: { readonly hazards: { items: { properties: { code: { enum: unknown } } } } };
};
const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true, strict: true }).compile(schema);

/** The first errors, as `path message`; empty for what fits. */
function errorsOf(value: unknown): readonly string[] {
  validate(value);
  return (validate.errors ?? []).slice(0, 5).map((error) => `${error.instancePath} ${error.message}`);
}

describe('the published JSON Schema', () => {
  it('names the phases, registers, region kinds and hazards that a trace can have', () => {
    const { $defs, properties } = schema;
    expect($defs.phaseName?.enum).toEqual(PHASE_NAMES);
    expect($defs.phase?.properties.registers?.required).toEqual(REGISTER_NAMES);
    expect($defs.region?.properties.kind?.enum).toEqual(
      expect.arrayContaining(Object.keys(REGION_KIND_STYLES)),
    );
    expect(properties.hazards.items.properties.code.enum).toEqual(HAZARD_CODES);
  });

  it('fits a trace that has every part', () => {
    expect(errorsOf(traceToJson(someTrace(), { events: true }))).toEqual([]);
  });

  it('fits a trace with names, and refuses a name that is empty', () => {
    const json = JSON.parse(JSON.stringify(traceToJson(someNamedTrace(), { events: true })));
    expect(errorsOf(json)).toEqual([]);
    const holders = [json.phases[1], json.events[1], json.kernel.segments[0]];
    for (const [holder, field] of [
      ...holders.map((each) => [each, 'symbol']),
      [json.kernel, 'entrySymbol'],
    ]) {
      const name = holder[field];
      expect(name).toMatch(/^[a-z_]/);
      holder[field] = '';
      expect(errorsOf(json)).not.toEqual([]);
      holder[field] = name;
    }
  });

  it('refuses an address that is a number, and a trace without phases', () => {
    const json = JSON.parse(JSON.stringify(traceToJson(someTrace()))) as Record<string, unknown>;
    const kernel = json.kernel as Record<string, unknown>;
    expect(errorsOf({ ...json, kernel: { ...kernel, entry: 0x1000000 } })).not.toEqual([]);
    expect(errorsOf({ ...json, phases: undefined })).not.toEqual([]);
  });
});
