// openai-node, pointed at the gateway by `baseURL` alone. Prints one JSON object: what each call gave, by its name.
// Run with the folder that has node_modules as its argument.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const installed = createRequire(`${process.argv[2]}/package.json`);
const { default: OpenAI } = await import(pathToFileURL(installed.resolve("openai")).href);

const { ALIGNWAY_CONFORMANCE_URL: baseURL, ALIGNWAY_CONFORMANCE_KEY: apiKey, ALIGNWAY_CONFORMANCE_MODEL: model } =
  process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const QUESTION = "Name three rivers in Europe.";
const ASKED = "What is the weather in Paris?";
const user = (content) => [{ role: "user", content }];
const greedy = (changes = {}) => ({ model, messages: user(QUESTION), temperature: 0, max_tokens: 8, ...changes });
const schema = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, country: { enum: ["France", "Italy"] } },
  required: ["name", "country"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", strict: true, parameters: schema } }];
const named = { type: "function", function: { name: "get_weather" } };
const create = (changes, options) => client.chat.completions.create(greedy(changes), options);

async function chunksOf(changes) {
  const chunks = [];
  for await (const chunk of await create({ ...changes, stream: true })) chunks.push(chunk);
  return chunks;
}

async function assembled(changes) {
  return client.chat.completions.stream(greedy(changes)).finalChatCompletion();
}

const calls = {
  whole: () => create(),
  several: () => create({ n: 2, seed: 3, stop: ["never said"], user: "ada", metadata: { case: "conformance" } }),
  probabilities: () => create({ logprobs: true, top_logprobs: 2, max_tokens: 4 }),
  streamed: () => chunksOf({ stream_options: { include_usage: true } }),
  without_usage: () => chunksOf({ max_tokens: 2 }),
  assembled: () => assembled(),
  structured: () =>
    client.chat.completions.parse(
      greedy({
        messages: user("Describe Paris."),
        max_tokens: 100,
        response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } },
      }),
    ),
  tool_call: () => create({ messages: user(ASKED), tools, tool_choice: named, max_tokens: 100 }),
  streamed_tool_call: () => assembled({ messages: user(ASKED), tools, tool_choice: "required", max_tokens: 100 }),
  tool_offered: () => create({ messages: user("hi"), tools }),
  conversation: () =>
    create({
      messages: [
        { role: "system", content: "You answer with the capital of a country and nothing else." },
        { role: "user", content: "France?" },
        { role: "assistant", content: "Paris." },
        { role: "user", content: "Spain?" },
        { role: "assistant", content: "Madrid." },
        { role: "user", content: [{ type: "text", text: "And Italy?" }] },
      ],
    }),
  request_id: async () => (await create())._request_id,
  cancelled: async () => {
    const stream = await create({ max_tokens: 900, logit_bias: { 2: -100 }, stream: true });
    let heard = 0;
    for await (const _ of stream) if (++heard === 3) break;
    return heard;
  },
  models: async () => {
    const found = [];
    for await (const each of client.models.list()) found.push(each);
    return found;
  },
  response: () => client.responses.create({ model, input: QUESTION, temperature: 0, max_output_tokens: 8 }),
  response_events: async () => {
    const events = [];
    const stream = await client.responses.create({ model, input: QUESTION, max_output_tokens: 8, stream: true });
    for await (const event of stream) events.push(event.type);
    return events;
  },
  legacy: () => client.completions.create({ model, prompt: "The capital of France is", temperature: 0, max_tokens: 4 }),
  embeddings: () => client.embeddings.create({ model: "embedder", input: "bread" }),
  stored: async () => {
    const metadata = { run: `node-${Date.now()}` };
    const made = [];
    for (let number = 0; number < 3; number++) made.push((await create({ metadata, max_tokens: 2 })).id);
    const listed = [];
    for await (const each of client.chat.completions.list({ metadata, limit: 2 })) listed.push(each.id);
    const { deleted } = await client.chat.completions.delete(made[0]);
    return { made, listed, deleted };
  },
  model: () => client.models.retrieve(model),
  wrong_key: () => new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 }).models.list(),
  unknown_model: () => create({ model: "gpt-unknown" }),
  unknown_model_streamed: () => create({ model: "gpt-unknown", stream: true }),
  bad_parameter: () => create({ temperature: 9 }),
  too_long: () => create({ messages: user("river ".repeat(2000)) }),
  too_large: () => create({ messages: user("a".repeat(5 << 20)) }),
  unknown_path: () => client.post("/nowhere", { body: {} }),
  method_not_allowed: () => client.put("/chat/completions", { body: {} }),
};

function described(error) {
  const kinds = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) kinds.push(kind.name);
  const { message, status, code, param, type, requestID } = error;
  return { kinds, message, status, code, param, type, request_id: requestID };
}

const found = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    found[name] = { value: await call() };
  } catch (error) {
    found[name] = { error: described(error) };
  }
}
console.log(JSON.stringify(found));
