// OpenAI's own package: what its helpers make of answers and streams, and journeys through tools in each way it offers.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { all, answer, Book, NAMES } from "./case.mjs";

const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOLS = NAMES.map((name) => ({ type: "function", name, parameters, strict: false }));

const client = ({ url }) => new OpenAI({ baseURL: url, apiKey: "sk-test", maxRetries: 0 });

async function streamed(responses, body) {
  const stream = responses.stream(body);
  const events = await all(stream);
  return { events, final: await stream.finalResponse() };
}

await answer({
  async helper({ url, model }) {
    const { responses } = client({ url });
    const { events, final } = await streamed(responses, { model, input: "Hello", reasoning: { summary: "auto" } });
    const told = events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta);
    const kept = await responses.retrieve(final.id);
    const listed = await all(responses.inputItems.list(final.id));
    await responses.delete(final.id);
    const gone = await responses.retrieve(final.id).catch(({ status, code }) => ({ status, code }));
    return { types: events.map(({ type }) => type), told: told.join(""), final, kept, listed, gone };
  },

  async parsed({ url, model }) {
    const text = { format: zodTextFormat(Book, "book") };
    const { responses } = client({ url });
    const whole = await responses.parse({ model, input: "A book, please", text });
    const { final } = await streamed(responses, { model, input: "A book, please", text });
    return [whole.output_parsed, final.output_parsed];
  },

  async summed({ url, model }) {
    const { responses } = client({ url });
    const { output, object } = await responses.compact({ model, input: "The word is plum." });
    const next = await responses.create({ model, input: [...output, { role: "user", content: "Which word?" }] });
    const { input_tokens } = await responses.inputTokens.count({ model, input: "Hello" });
    return { object, types: output.map(({ type }) => type), text: next.output_text, input_tokens };
  },

  // way: what goes back with the outputs of the calls
  async journey({ url, model, way, asked }) {
    const { responses } = client({ url });
    const sealed = way === "sealed" && { include: ["reasoning.encrypted_content"], store: false };
    let input = [{ role: "user", content: asked }];
    let previous_response_id;
    for (;;) {
      const body = { model, input, tools: TOOLS, previous_response_id, ...sealed };
      const { final } = await streamed(responses, body);
      const calls = final.output.filter(({ type }) => type === "function_call");
      if (calls.length === 0) return { text: final.output_text, types: final.output.map(({ type }) => type) };
      const outputs = calls.map(({ call_id }) => ({ type: "function_call_output", call_id, output: '{"done":true}' }));
      if (way === "previous") [input, previous_response_id] = [outputs, final.id];
      else input = [...input, ...final.output, ...outputs];
    }
  },

  async failed({ url, model }) {
    const { responses } = client({ url });
    const before = await responses.create({ model, input: "Hello" }).catch(({ status, code }) => ({ status, code }));
    const events = await all(await responses.create({ model, input: "Hello", stream: true }));
    return { before, last: events.at(-1) };
  },
});
