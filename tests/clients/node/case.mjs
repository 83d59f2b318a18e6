// What the scripts share. A case is asked for by one JSON argument, and what it found goes out as one line of JSON.
import { z } from "zod";

const given = JSON.parse(process.argv[2]);

export const NAMES = ["alpha", "beta", "gamma", "delta", "epsilon"]; // the tools of tests/clients/test_signature_journeys
export const Book = z.object({ title: z.string(), pages: z.number().int(), tags: z.array(z.string()) });

export async function answer(cases) {
  const found = await cases[given.case](given);
  process.stdout.write(`${JSON.stringify(found ?? null)}\n`);
}

export async function all(stream) {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
}
