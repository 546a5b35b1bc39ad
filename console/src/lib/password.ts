/** A hint while a password is typed; the server decides. */

export const MIN_LENGTH = 10;

export type Strength = "empty" | "short" | "weak" | "fair" | "good";

const COMMON = /password|123456|qwerty|admin|yinglong|letmein|welcome/i;

/** Length counts most; repetition and well-known words count against. */
export function strength(password: string, username: string): Strength {
  if (password === "") return "empty";
  const length = [...password].length;
  if (length < MIN_LENGTH) return "short";
  const distinct = new Set(password).size;
  const guessable =
    COMMON.test(password) ||
    (username.length >= 3 && password.toLowerCase().includes(username.toLowerCase()));
  if (guessable || distinct < 6) return "weak";
  const classes = [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].filter((c) => c.test(password));
  return length >= 18 || (length >= 14 && classes.length >= 3) ? "good" : "fair";
}
