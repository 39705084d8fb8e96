import type { MetadataValue } from "../api/types";

const whole = new Intl.NumberFormat("en");
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A number with its thousands apart: 4,423. */
export const count = (value: number) => whole.format(value);

/** A number and what it counts: "1 document", "4,423 passages". */
export const counted = (value: number, one: string, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** A size in bytes as people read it: 64 MiB. */
export function bytes(value: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${Number(rest.toFixed(rest < 10 ? 1 : 0))} ${units[unit]}`;
}

/** A moment in the reader's own time; what is no moment stays as it is. */
export function time(value: string | undefined): string {
  const date = new Date(value ?? "");
  return Number.isNaN(date.getTime()) ? (value ?? "") : moment.format(date);
}

/** A metadata value as text. */
export function metadata(value: MetadataValue): string {
  if (value.timestamp_value !== undefined) return time(value.timestamp_value);
  if (value.string_list) return value.string_list.values.join(", ");
  const plain = value.string_value ?? value.int_value ?? value.double_value ?? value.bool_value;
  return plain === undefined ? "none" : String(plain);
}

/** A model's id, and the beginning of its revision. */
export function model(value: string): string {
  const [id, revision] = value.split("@");
  return revision ? `${id}@${revision.slice(0, 8)}` : value;
}
