// Follows a stream with fetch, and comes back by itself as an EventSource would.

/**
 * Tells `heard` type, id and data of every event; returns when the stream says that there will be no more.
 * `createParser({onEvent, onRetry})` makes something to feed text to, as the npm package eventsource-parser does.
 */
export async function follow(createParser, url, heard) {
  let lastId = "";
  let over = false;
  let pause = 1000;
  const onEvent = ({ event, id, data }) => {
    lastId = id ?? lastId;
    over = event === "disconnected" && !JSON.parse(data).reconnect;
    heard(event, lastId, data);
  };
  while (!over) {
    try {
      const headers = lastId ? { "Last-Event-ID": lastId } : {};
      const response = await fetch(url, { headers, cache: "no-store" });
      if (response.status === 204) return; // nothing is left to come
      if (response.status !== 200) throw new Error(`refused with ${response.status}`);
      await read(response.body, createParser({ onEvent, onRetry: (milliseconds) => (pause = milliseconds) }));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch and its reader throw a TypeError when the network failed
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function read(body, parser) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) parser.feed(part.value);
}

/** A parser in as few lines as people write who have no package for it. */
export function createPlainParser({ onEvent, onRetry }) {
  let rest = "";
  return {
    feed(text) {
      const messages = (rest + text).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        const fields = Object.fromEntries(message.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        if (fields.retry) onRetry(Number(fields.retry));
        if (fields.event) onEvent(fields);
      }
    },
  };
}
