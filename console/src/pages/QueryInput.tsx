import { Autocomplete } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";

import { useSuggestions } from "../api/queries";
import { EVENT_TYPES } from "../api/types";
import { useTexts } from "../i18n";
import { eventType, replaceSegment, segmentAt, write } from "../lib/query";

interface QueryInputProps {
  /** The query in the address; a new one replaces what stands in the field. */
  asked: string;
  onRun: (query: string) => void;
}

/** The query, with suggestions for the condition around the caret. */
export function QueryInput({ asked, onRun }: QueryInputProps) {
  const { t } = useTexts();
  const input = useRef<HTMLInputElement>(null);
  const [query, setQuery] = useState(asked);
  const [touched, setTouched] = useState(false);
  useEffect(() => {
    setQuery(asked);
    setTouched(false);
  }, [asked]);
  const [settled] = useDebouncedValue(query, 150);
  const caret = input.current?.selectionStart ?? query.length;
  const segment = segmentAt(query, caret);
  const namesType = segment.key === "type" && segment.value !== undefined;
  const prefix = segment.value ?? segment.key;
  const suggestions = useSuggestions(
    {
      type: eventType(query),
      key: segment.value === undefined ? "" : segment.key.replace(/\.keyword$/, ""),
      prefix,
    },
    touched && settled === query && !namesType,
  );

  // Options are whole queries, so that choosing one needs no further thought.
  const options = new Map<string, string>();
  const offer = (label: string, condition: string) => {
    const whole = replaceSegment(query, segment, condition);
    if (whole !== query.trim()) options.set(whole, label);
  };
  if (namesType) {
    for (const type of EVENT_TYPES) {
      if (type.startsWith(prefix)) offer(type, write({ key: "type", value: type }));
    }
  } else if (segment.value === undefined) {
    if (!eventType(query) && "type".startsWith(prefix)) offer("type:", "type:");
    for (const field of suggestions.data?.fields ?? []) offer(`${field}:`, `${field}:`);
  } else {
    for (const value of suggestions.data?.values ?? []) {
      offer(value, write({ key: exact(segment.key, value), value }));
    }
  }

  return (
    <Autocomplete
      ref={input}
      name="q"
      className="y-query-input"
      aria-label={t("search.query")}
      placeholder={t("search.placeholder")}
      autoComplete="off"
      spellCheck={false}
      autoFocus={asked === ""}
      value={query}
      onChange={(value) => {
        setTouched(true);
        setQuery(value);
      }}
      onOptionSubmit={(value) => {
        // A finished condition runs at once; a field still waits for its value.
        if (!value.trimEnd().endsWith(":")) onRun(value);
      }}
      data={touched ? [...options.keys()] : []}
      // The server has chosen already.
      filter={({ options: all }) => all}
      limit={20}
      maxDropdownHeight={300}
      renderOption={({ option }) => (
        <span className="y-mono">{options.get(option.value) ?? option.value}</span>
      )}
    />
  );
}

/** A suggested value is a whole one: ask for it exactly unless it is a plain word. */
function exact(key: string, value: string): string {
  const plain = /^[\p{L}\p{N}.]+$/u.test(value);
  return plain || key.endsWith(".keyword") || key === "all" || key === "ip" ? key : `${key}.keyword`;
}
