/** Where the text of a condition occurs in a value, so that the page can mark it. */

export interface Piece {
  text: string;
  hit: boolean;
}

/** Longest value that a pattern is tried on; longer ones are shown unmarked. */
const LIMIT = 8_192;

/**
 * Splits `value` into marked and unmarked pieces. Conditions are a type and its data, such as
 * `regex ^/tmp/`; patterns of the server's dialect that this browser cannot read mark nothing.
 * Equality marks everything.
 */
export function pieces(value: string, condition: string): Piece[] {
  const match = /^\s*(string|regexp?|non-regex|count|blacklist)(?:\s*:\s*|\s+)(.*)$/s.exec(condition);
  const kind = match?.[1] ?? "";
  const data = match?.[2] ?? "";
  if (kind === "string") return [{ text: value, hit: true }];
  const searched = kind === "regex" || kind === "regexp" || kind === "blacklist";
  if (!searched || data === "" || value.length > LIMIT) {
    return [{ text: value, hit: false }];
  }
  let found: RegExpExecArray | null;
  try {
    found = new RegExp(data.replace(/^\(\?i\)/, ""), "is").exec(value);
  } catch {
    found = null;
  }
  if (!found || found[0] === "") return [{ text: value, hit: false }];
  const end = found.index + found[0].length;
  return [
    { text: value.slice(0, found.index), hit: false },
    { text: found[0], hit: true },
    { text: value.slice(end), hit: false },
  ].filter((piece) => piece.text !== "");
}

/** Characters kept on each side of a mark, and at the beginning. */
const AROUND = 60;

/** The beginning, the mark and what stands next to it; an unmarked text stays as it is. */
export function gist(found: Piece[]): Piece[] {
  if (!found.some(({ hit }) => hit)) return found;
  return found.map(({ text, hit }, index) => {
    if (hit || text.length <= 2 * AROUND) return { text, hit };
    const end = index < found.length - 1 ? ` ${text.slice(-AROUND)}` : "";
    return { text: `${text.slice(0, AROUND)} …${end}`, hit };
  });
}
