// The AI SDK of Vercel on its default model, that of Responses.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";
import { all, answer, Book, NAMES } from "./case.mjs";

const CITY = z.object({ city: z.string() });
const done = (name) => tool({ description: name, inputSchema: CITY, execute: async ({ city }) => ({ done: city }) });
const tools = Object.fromEntries(NAMES.map((name) => [name, done(name)]));

const asked = ({ url, model, options }) => ({
  model: createOpenAI({ baseURL: url, apiKey: "sk-test" })(model),
  maxRetries: 0,
  providerOptions: { openai: options ?? {} },
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

  async searched(given) {
    const search = createOpenAI({ baseURL: given.url, apiKey: "sk-test" }).tools.webSearch();
    const result = await generateText({ ...asked(given), prompt: "Oslo?", tools: { web_search: search } });
    return { text: result.text, sources: result.sources };
  },

  async journey(given) {
    const ask = given.streams ? streamText : generateText;
    const result = await ask({ ...asked(given), prompt: given.asked, tools, stopWhen: isStepCount(10) });
    const steps = await result.steps;
    return { text: await result.text, steps: steps.length, finish: await result.finishReason };
  },

  // the second question names the first answer, or holds all that was said
  async again(given) {
    const first = await generateText({ ...asked(given), prompt: "call alpha", tools, stopWhen: isStepCount(10) });
    const { responseId } = first.finalStep.providerMetadata.openai;
    const question = { role: "user", content: "Thank you. Now call beta" };
    const named = { options: { ...given.options, previousResponseId: responseId } };
    const messages = [{ role: "user", content: "call alpha" }, ...first.responseMessages, question];
    const second = given.names
      ? { ...asked({ ...given, ...named }), messages: [question] }
      : { ...asked(given), messages };
    const { text } = await generateText({ ...second, tools, stopWhen: isStepCount(10) });
    return { text };
  },
});
