import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { texts, type TextKey } from "./texts";
import { columns, terms } from "./terms";
import { Refused } from "./api";

export type Language = "en" | "zh";

/** The words of one language: sentences of the page, and the mesh's own vocabulary. */
export class Words {
  constructor(readonly language: Language) {}

  /** A sentence of the page; {0}, {1} … are replaced. */
  say(key: TextKey, ...values: (string | number)[]): string {
    const text = texts[key][this.language === "zh" ? 1 : 0];
    return values.reduce<string>((out, value, i) => out.replace(`{${i}}`, String(value)), text);
  }

  /** A word of the mesh's vocabulary; an unknown one stands as it is. */
  term(word: string | undefined): string {
    if (!word) return "";
    return terms[word]?.[this.language === "zh" ? 1 : 0] ?? word.replaceAll("_", " ");
  }

  /** A failed stage and its reason, `stage: reason`. */
  reason(text: string): string {
    return text.replace(/^[a-z]+(?=: )/, (stage) => this.term(stage));
  }

  /** Heading of a column that the server names. */
  column(name: string): string {
    return columns[name]?.[this.language === "zh" ? 1 : 0] ?? name.replaceAll("_", " ");
  }

  /** Why something failed, as the server says it. */
  fault(error: unknown): string {
    if (error instanceof Refused) return error.texts[this.language];
    return error instanceof Error ? error.message : String(error);
  }

  number(value: number | undefined | null, digits = 1): string {
    return value === undefined || value === null || !Number.isFinite(value)
      ? "–"
      : value.toFixed(digits);
  }

  /** DICOM DA as a date of the language. */
  date(da: string | undefined | null): string {
    return da && /^\d{8}$/.test(da) ? `${da.slice(0, 4)}-${da.slice(4, 6)}-${da.slice(6)}` : "–";
  }

  /** An instant in the reader's own time zone. */
  time(at: string | undefined | null): string {
    if (!at) return "–";
    const form: Intl.DateTimeFormatOptions = { dateStyle: "medium", timeStyle: "short" };
    return new Intl.DateTimeFormat(this.language === "zh" ? "zh-CN" : "en-GB", form).format(
      new Date(at),
    );
  }
}

export const WordsContext = createContext(new Words("en"));
export const useWords = (): Words => useContext(WordsContext);
