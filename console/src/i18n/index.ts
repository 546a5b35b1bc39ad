/** Texts in two languages; the browser's choice until a person makes their own. */

import i18next from "i18next";
import { initReactI18next, useTranslation } from "react-i18next";

import type { Lang } from "../lib/format";
import { en } from "./en";
import { zh } from "./zh";

const STORED = "yinglong-language";

/** The first language of `preferred` that exists, English otherwise. */
export function pick(stored: string | null, preferred: readonly string[]): Lang {
  if (stored === "en" || stored === "zh") return stored;
  for (const tag of preferred) {
    if (tag.toLowerCase().startsWith("zh")) return "zh";
    if (tag.toLowerCase().startsWith("en")) return "en";
  }
  return "en";
}

function apply(lang: Lang): void {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
}

export function start(): void {
  const lang = pick(localStorage.getItem(STORED), navigator.languages);
  apply(lang);
  void i18next.use(initReactI18next).init({
    resources: { en: { translation: en }, zh: { translation: zh } },
    lng: lang,
    fallbackLng: "en",
    // React escapes text; escaping twice would show entities.
    interpolation: { escapeValue: false },
  });
}

export function setLanguage(lang: Lang): void {
  localStorage.setItem(STORED, lang);
  apply(lang);
  void i18next.changeLanguage(lang);
}

/** Texts and language of the current render. */
export function useTexts() {
  const { t, i18n } = useTranslation();
  const lang: Lang = i18n.language === "zh" ? "zh" : "en";
  return { t, lang };
}
