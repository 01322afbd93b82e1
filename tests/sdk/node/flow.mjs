// What somebody's backend does with openai-node. Reads {scenario, ...} from stdin, writes JSON.
import { readFileSync } from "node:fs";
import OpenAI, { AzureOpenAI } from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const input = JSON.parse(readFileSync(0, "utf8"));
const client = (apiKey, baseURL = `${input.url}/v1`) =>
  new OpenAI({ apiKey, baseURL, maxRetries: 0 });
const session = { type: "realtime", model: input.model };

async function callWith(openai, body) {
  const answer = await openai.realtime.calls.create(body);
  const location = answer.headers.get("location");
  return { status: answer.status, location, sdp: await answer.text() };
}

// The status, the code and the message with which something is refused.
async function refusal(work) {
  try {
    await work;
  } catch (error) {
    return { status: error.status, code: error.code, message: error.error?.message };
  }
  return null;
}

// The events of a socket up to the first of a type.
function eventsUntil(socket, type) {
  return new Promise((resolve, reject) => {
    const events = [];
    socket.on("error", reject);
    socket.on("event", (event) => {
      events.push(event);
      if (event.type === type) resolve(events);
    });
  });
}

// Sends events when a socket is open.
const sendTo = (socket, events) =>
  socket.socket.on("open", () => events.forEach((event) => socket.send(event)));

const scenarios = {
  async mintAndCall() {
    const minted = await client(input.key).realtime.clientSecrets.create({
      expires_after: { anchor: "created_at", seconds: 60 }, session,
    });
    return { value: minted.value, model: minted.session.model,
      ...(await callWith(client(minted.value), { sdp: input.offer })) };
  },
  async azure() {
    const options = { baseURL: `${input.url}/openai/v1`, apiVersion: "preview", maxRetries: 0 };
    const minted = await new AzureOpenAI({ ...options, apiKey: input.key })
      .realtime.clientSecrets.create({ session });
    // Azure takes an ephemeral key as a bearer token only.
    const caller = client(minted.value, options.baseURL);
    return { value: minted.value, ...(await callWith(caller, { sdp: input.offer })) };
  },
  async unified() {
    return callWith(client(input.key), { sdp: input.offer, session });
  },
  async wrongKey() {
    return refusal(client("sk-nobody-knows-this-one").realtime.clientSecrets.create({ session }));
  },
  async hangUp() {
    const calls = client(input.key).realtime.calls;
    await calls.hangup(input.callId);
    return refusal(calls.hangup("rtc_of-somebody-else"));
  },
  async socket() {
    // The SDK connects to wss: alone.
    const socket = new OpenAIRealtimeWS({ model: input.model }, client(input.key));
    const events = eventsUntil(socket, "response.done");
    const textOnly = { type: "realtime", output_modalities: ["text"] };
    sendTo(socket, [{ type: "session.update", session: textOnly }, { type: "response.create" }]);
    const types = (await events).map((event) => event.type);
    socket.close();
    return { types };
  },
  async sideband() {
    const socket = new OpenAIRealtimeWS({ callID: input.callId }, client(input.key));
    const events = eventsUntil(socket, "session.updated");
    const quietly = { type: "realtime", instructions: "Whisper." };
    sendTo(socket, [{ type: "session.update", session: quietly }]);
    const updated = (await events).at(-1);
    socket.close();
    return { instructions: updated.session.instructions };
  },
};

process.stdout.write(JSON.stringify(await scenarios[input.scenario]()));
