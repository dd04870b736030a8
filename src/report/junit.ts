// Results of checks as JUnit XML, which CI systems read.

export interface CheckedCase {
  readonly name: string;
  readonly seconds: number;
  /** One sentence a difference; empty when the check passed. */
  readonly failures: readonly string[];
  /** The check could not be made at all. */
  readonly error: string | null;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** XML 1.0 has no way to write most control characters; they become U+FFFD. */
function escapeXml(text: string): string {
  return (
    text
      .replace(/[&<>"']/g, (character) => ENTITIES[character]!)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML cannot hold
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
  );
}

export function formatJunit(suite: string, cases: readonly CheckedCase[]): string {
  const failed = cases.filter(({ failures }) => failures.length > 0).length;
  const errors = cases.filter(({ error }) => error !== null).length;
  const seconds = cases.reduce((sum, each) => sum + each.seconds, 0);
  const counts = `tests="${cases.length}" failures="${failed}" errors="${errors}" time="${seconds.toFixed(3)}"`;
  let text = `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ${counts}>\n`;
  text += `  <testsuite name="${escapeXml(suite)}" ${counts}>\n`;
  for (const { name, seconds: time, failures, error } of cases) {
    text += `    <testcase classname="bootscope" name="${escapeXml(name)}" time="${time.toFixed(3)}"`;
    if (failures.length === 0 && error === null) {
      text += '/>\n';
      continue;
    }
    text += '>\n';
    if (error !== null) text += `      <error message="${escapeXml(error)}"/>\n`;
    if (failures.length > 0) {
      const message = `${failures.length} differences, the first: ${failures[0]}`;
      text += `      <failure message="${escapeXml(message)}">${escapeXml(failures.join('\n'))}</failure>\n`;
    }
    text += '    </testcase>\n';
  }
  return `${text}  </testsuite>\n</testsuites>\n`;
}
