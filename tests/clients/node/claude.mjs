// The AI SDK of Vercel on its model of Anthropic's Messages.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";
import { all, answer, Book, NAMES } from "./case.mjs";

const CITY = z.object({ city: z.string() });
const done = (name) => tool({ description: name, inputSchema: CITY, execute: async ({ city }) => ({ done: city }) });
const tools = Object.fromEntries(NAMES.map((name) => [name, done(name)]));

const asked = ({ url, model, options }) => ({
  model: createAnthropic({ baseURL: url, apiKey: "sk-test" })(model),
  maxRetries: 0,
  providerOptions: { anthropic: options ?? {} },
});

await answer({
  async text(given) {
    const { text, usage, finishReason, reasoningText } = await generateText({ ...asked(given), prompt: "Hello" });
    return { text, usage, finishReason, reasoningText };
  },

  async stream(given) {
    const result = streamText({ ...asked(given), prompt: "Hello", onError() {} });
    const parts = await all(result.fullStream);
    const joined = (type) => parts.filter((part) => part.type === type).map(({ text }) => text).join("");
    return {
      types: parts.map(({ type }) => type),
      text: joined("text-delta"),
      thought: joined("reasoning-delta"),
      finish: parts.find(({ type }) => type === "finish"),
      failed: parts.find(({ type }) => type === "error")?.error,
    };
  },

  async object(given) {
    const output = Output.object({ schema: Book });
    const whole = await generateText({ ...asked(given), prompt: "A book, please", output });
    const streamed = streamText({ ...asked(given), prompt: "A book, please", output });
    return [whole.output, await streamed.output, (await all(streamed.partialOutputStream)).at(-1)];
  },

  async journey(given) {
    const ask = given.streams ? streamText : generateText;
    const result = await ask({ ...asked(given), prompt: given.asked, tools, stopWhen: isStepCount(10) });
    const steps = await result.steps;
    return { text: await result.text, steps: steps.length, finish: await result.finishReason };
  },
});
