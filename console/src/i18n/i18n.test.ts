import { describe, expect, it } from "vitest";

import { pick } from ".";
import { en } from "./en";
import { zh } from "./zh";

type Tree = { [key: string]: string | Tree };

function leaves(tree: Tree, prefix = ""): Map<string, string> {
  const all = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === "string") all.set(prefix + key, value);
    else for (const [path, text] of leaves(value, `${prefix}${key}.`)) all.set(path, text);
  }
  return all;
}

const english = leaves(en);
const chinese = leaves(zh);
const placeholders = (text: string) => [...text.matchAll(/{{(\w+)}}/g)].map((m) => m[1]).sort();

describe("texts", () => {
  it("have the same keys in both languages", () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it("are empty in neither language, except where both are", () => {
    for (const [key, text] of english) {
      expect(chinese.get(key) === "", key).toBe(text === "");
    }
  });

  it("use the same placeholders in both languages", () => {
    for (const [key, text] of english) {
      const plural = key.endsWith("_one");
      const expected = new Set(placeholders(text));
      const actual = new Set(placeholders(chinese.get(key) ?? ""));
      if (plural) {
        actual.delete("count");
        expected.delete("count");
      }
      expect(actual, key).toEqual(expected);
    }
  });

  it("exist for every key that the code names in full", () => {
    const files = import.meta.glob<string>("../**/*.tsx", {
      query: "?raw",
      import: "default",
      eager: true,
    });
    expect(Object.keys(files).length).toBeGreaterThan(10);
    for (const [file, source] of Object.entries(files)) {
      for (const [, key = ""] of source.matchAll(/\bt\("([\w.]+)"/g)) {
        expect(english.has(key) || english.has(`${key}_other`), `${file}: ${key}`).toBe(true);
      }
    }
  });
});

describe("the language", () => {
  it("is the stored one, else the browser's first known one, else English", () => {
    expect(pick("zh", ["en-GB"])).toBe("zh");
    expect(pick(null, ["fr-FR", "zh-TW", "en"])).toBe("zh");
    expect(pick("nonsense", ["en-US", "zh"])).toBe("en");
    expect(pick(null, ["fr"])).toBe("en");
  });
});
