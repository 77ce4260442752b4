/** Tells the test of an event: one line of JSON. */
export const tell = (...event) => process.stdout.write(`${JSON.stringify(event)}\n`);
