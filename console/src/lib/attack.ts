/** ATT&CK techniques: where to read about one. Nothing is requested until a person follows it. */

const PATTERN = /^T(\d{4})(?:\.(\d{3}))?$/;

/** Address of a technique, `undefined` when the text is none. */
export function techniqueUrl(technique: string): string | undefined {
  const match = PATTERN.exec(technique);
  if (!match) return undefined;
  const base = `https://attack.mitre.org/techniques/T${match[1]}/`;
  return match[2] ? `${base}${match[2]}/` : base;
}
